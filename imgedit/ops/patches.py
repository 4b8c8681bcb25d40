"""Square patches of a picture: where they lie, which are whole, and what overlapping ones say of a pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.harmonic import harmonic

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Index = NDArray[np.intp]


class Square(NamedTuple):
    """The pixels of a patch of *side* (odd) in a picture, as distances from its centre in a flat picture.

    *far*: (pixels,) squared distance from the centre, in pixels.
    """

    side: int
    offsets: Index
    far: Floats


def square(side: int, columns: int) -> Square:
    """Return the patch of *side* pixels for a picture of *columns*."""
    y, x = np.mgrid[-(side // 2) : side // 2 + 1, -(side // 2) : side // 2 + 1].reshape(2, -1)
    return Square(side, (y * columns + x).astype(np.intp), (y * y + x * x).astype(np.float32))


def whole(hole: Flags, side: int) -> Flags:
    """Return where the centre of a patch can lie so that all of it is in the picture and none in *hole*."""
    known = (~hole).view(np.uint8)
    return np.asarray(cv2.erode(known, np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0)


def over(hole: Flags, side: int, stride: int) -> tuple[Index, Index]:
    """Return y and x of the centres, on a grid of *stride*, of the patches that hold pixels of *hole*.

    Together they cover it; all lie in the picture, which must have *side* rows and columns.
    """
    wide = cv2.dilate(hole.view(np.uint8), np.ones((side, side)))
    axes = []
    for size in hole.shape:
        last = size - side // 2 - 1
        axes.append(np.append(np.arange(side // 2, last, stride), last))
    y, x = np.nonzero(wide[np.ix_(*axes)])
    return axes[0][y], axes[1][x]


class Votes:
    """Sums what overlapping patches say of each pixel, weighted by exp(log weight) without underflow."""

    def __init__(self, shape: tuple[int, ...], side: int) -> None:
        self.square = square(side, shape[1])
        self.most = np.full(shape[0] * shape[1], -np.inf, np.float32)
        self.sums = np.zeros((shape[0] * shape[1], 4), np.float32)

    def add(self, place: Index, patches: Floats, weight: Floats) -> None:
        """Add *patches* (n, pixels, 4) round the different centres *place* by log *weight* (n, pixels).

        The fourth value of each pixel is overwritten.
        """
        patches[..., 3] = 1
        where = (place[:, None] + self.square.offsets).ravel()
        first, last = int(where.min()), int(where.max()) + 1
        most, sums = self.most[first:last], self.sums[first:last]
        before = most.copy()
        np.maximum.at(most, where - first, weight.ravel())
        voted = most > -np.inf
        sums[voted] *= np.exp(before[voted] - most[voted])[:, None]
        share = np.exp(weight.ravel() - self.most[where])
        for channel in range(4):
            values = patches[..., channel].ravel() * share
            sums[:, channel] += np.bincount(where - first, values, last - first)

    def result(self, otherwise: Floats) -> Floats:
        """Return the weighted means (rows, columns, 4); *otherwise* where nobody voted. The fourth value is open."""
        total = self.sums[:, 3:]
        means = np.divide(self.sums, total, out=otherwise.reshape(-1, 4).copy(), where=total > 0)
        return means.reshape(otherwise.shape)


def closed(values: Floats, levels: Floats, hole: Flags) -> Floats:
    """Return *values* with the seam round *hole* closed: (rows, columns, 3) in 8-bit levels, any value outside it.

    What *levels* and *values*, both (rows, columns, 4), differ by on the pixels round the hole is spread over it by
    the Laplace equation and added (Pérez, Gangnet, Blake, "Poisson image editing", 2003, eq. 10).
    """
    scale, middle = 20, 32_000
    given: Any = (levels[..., :3] - values[..., :3]) * scale
    given = np.clip(np.rint(given, out=given) + middle, 0, 65535).astype(np.uint16)
    spread = harmonic(given, hole.view(np.uint8)).astype(np.float32)
    return np.asarray(values[..., :3] + (spread - middle) / scale)
