"""Fine texture from the picture itself: where a reduced copy looks like it, the copy's own lost detail is borrowed.

A photograph resembles itself across scales (Glasner, Bagon and Irani 2009; Freedman and Fattal 2011). What is enlarged
lacks detail that its input has at its own scale; patches of the input that look like the enlarged one once their own
finest detail is taken off say what that detail may be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.ops.resample import cubic, lanczos, prefilter
from imgedit.ops.residual import edges

Floats = NDArray[np.float32]
Plane = NDArray[np.uint8]

#: small pixels to each side in which a patch is looked for
WINDOW = 5
#: a patch is known by its cosines of order below this, without the mean
_ORDER = 4
#: a patch that differs by this share of the variance nearby, and by a level, counts half
_UNLIKE = 0.3
#: side of the square, small pixels, over which detail must be spread evenly to be texture
_EVEN = 9
#: levels a pixel: an edge as steep as this in what is enlarged halves the texture, so that it stays where it is
_STEEP = 12.0
#: parts of a level and of a weight that patches are compared in: whole numbers, so that no tile decides otherwise
_LEVEL, _WEIGHT = 16, 4096
#: parts of a level that detail is told from: as fine as 16 bits are
_DEEP = 256
#: E|z|^½ of a normal distribution, to the 4th, is this part of its variance
_NORMAL = 0.4569
_FULL = 255


class Exemplars:
    """Texture for :func:`imgedit.ops.refine.refine`: *share* of what patches of the picture lend.

    *photographed*: (rows, columns) of the picture, 255 where patches may be taken from; None: everywhere.
    """

    def __init__(self, share: float, photographed: Plane | None = None) -> None:
        self._share, self._photographed = share, photographed

    def reach(self, scale: int) -> int:
        """Return how many small pixels away from a pixel of the result its texture can come from."""
        sides = _sides(scale)
        return 1 + WINDOW + max(sides) + max(len(_smoothing(scale)) // 2, _EVEN) + _EVEN // 2 + 1

    def __call__(self, small: Floats, large: Floats, scale: int, top: int, left: int) -> Floats:
        """Return what to add to *large*, (rows · *scale*, columns · *scale*, 3), which *small* was enlarged to.

        Both in levels of 0…255; *top*, *left*: where *small* lies in the picture.
        """
        rows, columns = small.shape[:2]
        smooth = _smoothed(small, scale)
        detail = small - smooth
        even = _evenness(detail)
        weight, at = self._matches(smooth, large, scale, self._usable(rows, columns, scale, top, left))
        weight *= even * np.float32(self._share)
        lent = _laid(detail * even[..., None], weight, at, scale)
        calm = 1 / (1 + np.square(edges(large) / np.float32(_STEEP)))
        lent *= calm[..., None]
        return lent

    def _usable(self, rows: int, columns: int, scale: int, top: int, left: int) -> NDArray[np.bool_]:
        """Return where (rows, columns) a patch may begin: inside the window, and photographed from there to its end."""
        side = _sides(scale)[0]
        usable = np.zeros((rows, columns), bool)
        usable[: rows - side + 1, : columns - side + 1] = rows >= side <= columns
        if self._photographed is not None:
            here = spill.fetch(self._photographed[top : top + rows, left : left + columns])
            good = cv2.erode(
                here, np.ones((side, side), np.uint8), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=_FULL
            )
            usable &= np.asarray(good) == _FULL
        return usable

    def _matches(
        self, smooth: Floats, large: Floats, scale: int, usable: NDArray[np.bool_]
    ) -> tuple[Floats, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return for each small pixel how good its best patch is, 0…1, and where in *smooth* that begins."""
        rows, columns = smooth.shape[:2]
        lend, compare = _sides(scale)
        margin, wider = (lend - scale) // 2, (compare - scale) // 2
        # the middle of a patch lies where the pixel does
        begin = margin + (scale - 1) // 2
        pad = WINDOW + begin + wider
        asked = _features(_whole(large), wider, compare, scale)
        offered = _features(_whole(smooth), pad + wider - margin, compare, 1)
        allowed = np.pad(usable, pad)
        best, at = np.full((rows, columns), np.inf, np.float32), np.zeros((2, rows, columns), np.intp)
        off, square = np.empty_like(best), np.empty_like(best)
        for y, x in _offsets():
            place = slice(pad + y - begin, pad + y - begin + rows), slice(pad + x - begin, pad + x - begin + columns)
            off[:] = np.where(allowed[place], 0, np.inf)
            for one, other in zip(asked, offered):
                np.subtract(one, other[place], out=square)
                off += np.multiply(square, square, out=square)
            better = off < best
            best[better] = off[better]
            at[0][better], at[1][better] = y, x
        grey = smooth.mean(axis=2)
        varies = _mean(np.square(grey - _mean(grey, _EVEN)), 5)
        weight = np.asarray(1 / (1 + best / (np.float32(_UNLIKE) * varies + 1)), np.float32)
        down, across = (np.arange(size) - begin for size in (rows, columns))
        return weight, (down[:, None] + at[0], across + at[1])


def _sides(scale: int) -> tuple[int, int]:
    """Return the sides of patches that are lent and that are compared, in pixels of the grid that they lie in."""
    lend = scale + 2 * -(-scale // 2)
    return lend, max(lend, scale + 4)


@lru_cache
def _offsets() -> list[tuple[int, int]]:
    """Return the places in the window, nearest first."""
    side = range(-WINDOW, WINDOW + 1)
    return sorted(((y, x) for y in side for x in side), key=lambda place: (place[0] ** 2 + place[1] ** 2, place))


@lru_cache
def _smoothing(scale: int) -> NDArray[np.float64]:
    """Return the filter that takes away what reducing by *scale* and enlarging again do: symmetric, sum 1."""
    down = cubic(np.arange(-2 * scale, 2 * scale + 1) / scale)
    up = lanczos(np.arange(-3 * scale, 3 * scale + 1) / scale)
    back = prefilter(64, 64 * scale, 0.0)
    spread = np.zeros((len(back) - 1) * scale + 1)
    spread[::scale] = back
    whole = np.convolve(np.convolve(down / down.sum(), up / up.sum()), spread)
    middle, half = len(whole) // 2, 3 * scale
    kept = whole[middle - half : middle + half + 1]
    exact: NDArray[np.float64] = np.rint(kept / kept.sum() * _WEIGHT)
    exact[half] += _WEIGHT - exact.sum()
    return exact / _WEIGHT


def _smoothed(picture: Floats, scale: int) -> Floats:
    weights = _smoothing(scale)
    # few enough bits for all sums to be exact
    exact = np.rint(picture.astype(np.float64) * _DEEP) / _DEEP
    return np.asarray(cv2.sepFilter2D(exact, -1, weights, weights, borderType=cv2.BORDER_REPLICATE), np.float32)


def _whole(picture: Floats) -> NDArray[np.float64]:
    """Return the mean over colours of *picture* in whole parts of a level."""
    total: NDArray[np.float64] = np.rint(picture.astype(np.float64).sum(axis=2) * (_LEVEL / 3))
    return total


def _features(grey: NDArray[np.float64], pad: int, side: int, step: int) -> list[Floats]:
    """Return what patches of *side* are known by, as planes; that at (0, 0) begins *pad* pixels before *grey* does.

    Sums over their squared differences are the mean squared difference of patches, in levels. One for each *step*.
    """
    wide = np.pad(grey, pad, mode="edge")
    rows, columns = (-(-(length - (0 if step == 1 else 2 * pad)) // step) for length in wide.shape)
    phases = np.pi * (np.arange(side) + 0.5) / side
    waves = [np.rint(64 * np.cos(order * phases)) for order in range(_ORDER)]
    found = []
    for down in range(_ORDER):
        for across in range(_ORDER - down):
            if down + across:
                wave = cv2.sepFilter2D(
                    wide, -1, waves[across], waves[down], anchor=(0, 0), borderType=cv2.BORDER_REPLICATE
                )
                unit = _LEVEL * side * np.sqrt(np.square(waves[down]).sum() * np.square(waves[across]).sum())
                found.append((wave[: rows * step : step, : columns * step : step] / unit).astype(np.float32))
    return found


def _evenness(detail: Floats) -> Floats:
    """Return near 1 where *detail* is spread like noise, near 0 where it is an edge or a spot on even ground: 0…1."""
    power = np.square(detail).mean(axis=2)
    typical = _mean(np.sqrt(np.sqrt(power)), _EVEN) ** 4 / np.float32(_NORMAL)
    return np.square(np.minimum(typical / (_mean(power, _EVEN) + np.float32(0.5)), 1))


def _mean(plane: Any, side: int) -> Floats:
    return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REPLICATE), np.float32)


def _laid(detail: Floats, weight: Floats, at: tuple[NDArray[np.intp], NDArray[np.intp]], scale: int) -> Floats:
    """Return patches of *detail* that begin *at*, times *weight*, laid over one another on the large grid."""
    rows, columns = weight.shape
    side = _sides(scale)[0]
    margin = (side - scale) // 2
    ramp = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    # each large pixel lies in the same share of patches, whichever its place in a small one
    total = np.array([ramp[phase::scale].sum() for phase in range(scale)])
    lent = np.zeros((rows * scale + 2 * margin, columns * scale + 2 * margin, 3), np.float32)
    for y in range(side):
        for x in range(side):
            share = np.float32(ramp[y] * ramp[x] / (total[y % scale] * total[x % scale]))
            lines, places = np.clip(at[0] + y, 0, rows - 1), np.clip(at[1] + x, 0, columns - 1)
            target = lent[y : y + rows * scale : scale, x : x + columns * scale : scale]
            target += (weight * share)[..., None] * detail[lines, places]
    return lent[margin : margin + rows * scale, margin : margin + columns * scale]
