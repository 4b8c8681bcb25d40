"""Enlarge by a small network that adds to the deterministic result what that lacks, tile by tile.

The network itself is handed in as a function, so that nothing here knows what runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import bands
from imgedit.ops.depth import LEVEL
from imgedit.ops.enlarge import enlarge
from imgedit.ops.resample import lanczos, taps
from imgedit.ops.residual import SCALES, SEED, UNIT, given, projected, together

Pixels = NDArray[Any]
Floats = NDArray[np.float32]
#: what `residual.given` makes, and the scale → (3 · scale², rows, columns) float32, what is added
Network = Callable[[Floats, int], Floats]

#: small pixels to a tile's side, without what is around it
TILE = 192
#: small pixels that a pixel of the result can depend on: in the network, in `residual.given` and `projected`, in
#: the deterministic result, and in :func:`_shown`
REACH, _GIVEN, _BACK, _SEEDED, _HIDDEN = 10, 3, 4, 15, 13
#: sides of the squares in which colours are looked for where all is hidden, smallest first
_SQUARES = (3, 9, 2 * _HIDDEN + 1)
#: tiles at work at once, at most: each needs memory
_THREADS = 4
_BAND = 1 << 20
_LOBES = 3


class Texture(Protocol):
    """What is added besides what the network adds."""

    def reach(self, scale: int) -> int:
        """Return how many small pixels around it a pixel of the texture can depend on."""
        ...

    def __call__(self, small: Floats, large: Floats, scale: int, top: int, left: int) -> Floats:
        """Return (rows, columns, 3) levels to add to *large*, which *small* at *top*, *left* was enlarged to."""
        ...


@dataclass(frozen=True, slots=True)
class Beyond:
    """How far to go beyond what the network says is likely.

    *detail*: what it adds is taken so many times; *rounds* of back-projection; *texture*: what is added besides.
    """

    detail: float = 1.0
    rounds: int = 1
    texture: Texture | None = None


def refine(
    pixels: Pixels,
    result: Pixels,
    network: Network,
    sharpen: float = SEED,
    tile: int = TILE,
    beyond: Beyond = Beyond(),
) -> None:
    """Write *pixels* (rows, columns, 3 or 4; uint8 or uint16), enlarged to its size, into *result*.

    *result* is of the same type, or float32 for levels of 0…255 that are not rounded. A fourth channel is straight
    alpha: it is enlarged without the network, and hidden colours have no effect on those that are seen. What is grey
    stays grey. Works in *tile* small pixels at a time, each on one thread, in as many threads as OpenCV may use, four
    at most; the result is that of the whole.
    """
    if pixels.shape == result.shape:
        result[:] = pixels / _level(pixels) if result.dtype == np.float32 else pixels
        return
    ratio = max(large / small for small, large in zip(pixels.shape, result.shape))
    picture = _Picture(pixels, network, sharpen, ratio, beyond)
    down, across = (_Axis(pixels.shape[i], result.shape[i], picture.scale, tile) for i in (0, 1))

    def work(rows: range, columns: range) -> None:
        inputs, vertical = down.part(rows)
        beside, horizontal = across.part(columns)
        planes = picture.levels(inputs, beside)
        if vertical is not None:
            planes = vertical @ planes
        if horizontal is not None:
            planes = planes @ horizontal.T
        picture.write(result, planes, rows, columns)

    with ThreadPoolExecutor(max(1, min(cv2.getNumThreads(), _THREADS))) as pool:
        places = [(rows, columns) for rows in down.tiles() for columns in across.tiles()]
        for _ in pool.map(lambda place: work(*place), places):
            pass


class _Picture:
    """A picture that is enlarged by *scale*, the least of SCALES that is not less than *ratio*, or the greatest."""

    def __init__(self, pixels: Pixels, network: Network, sharpen: float, ratio: float, beyond: Beyond) -> None:
        self.pixels, self.network, self.sharpen, self.beyond = pixels, network, sharpen, beyond
        self.scale = next((scale for scale in SCALES if scale >= ratio), SCALES[-1])
        self.grey = all(_is_grey(pixels[part]) for part in bands(pixels.shape[0], pixels.shape[1], _BAND))

    def levels(self, rows: range, columns: range) -> Floats:
        """Return (3 or 4, …) levels of 0…255 of the small pixels at *rows* and *columns*, enlarged by the scale."""
        back, texture = _BACK * self.beyond.rounds, self.beyond.texture
        context = back + max(REACH + _GIVEN, texture.reach(self.scale) if texture else 0) + _SEEDED
        own, small = self._window(rows, columns, context)
        hidden = small.shape[2] == 4 and not (small[..., 3] == _full(small)).all()
        if hidden:
            own, small = self._window(rows, columns, context + _HIDDEN)
            small = _shown(small)
        else:
            small = np.ascontiguousarray(small[..., :3])
        large = self._enlarged(small, SEED)
        # the network looks at no more than it must
        near = tuple(slice(max(part.start - back - REACH, 0), part.stop + back + REACH) for part in own)
        out = self._refined(small, large, near, rows.start - own[0].start, columns.start - own[1].start)
        if self.pixels.shape[2] == 4:
            place = self._times(near)
            alpha = large[place][..., 3] / _level(small) if hidden else np.full(out.shape[1:], 255, np.float32)
            out = np.concatenate((out, alpha[None]))
        inner = tuple(slice(part.start - about.start, part.stop - about.start) for part, about in zip(own, near))
        return np.clip(out[:, *self._times(inner)], 0, 255)

    def _refined(self, small: Pixels, large: Pixels, near: tuple[slice, ...], top: int, left: int) -> Floats:
        """Return the levels of *large*, which *small* was enlarged to, with what the network adds, where *near* is.

        *top*, *left*: where *small* lies in the picture.
        """
        colours, seed = _floats(small), _floats(large)
        planes = np.ascontiguousarray(given(colours, seed, self.scale)[:, near[0], near[1]])
        out = together(self.network(planes, self.scale), self.scale) * np.float32(UNIT * self.beyond.detail)
        place = self._times(near)
        out += seed[place].transpose(2, 0, 1)
        if self.beyond.texture:
            out += self.beyond.texture(colours, seed, self.scale, top, left)[place].transpose(2, 0, 1)
        wanted = np.ascontiguousarray(colours[near].transpose(2, 0, 1))
        for _ in range(self.beyond.rounds):
            out = projected(out, wanted, self.scale)
        if self.sharpen != SEED:
            more = _floats(self._enlarged(small, self.sharpen)) - seed
            out += more[place].transpose(2, 0, 1)
        if self.grey:
            out[:] = out.mean(axis=0)
        return out

    def write(self, result: Pixels, planes: Floats, rows: range, columns: range) -> None:
        """Write *planes* to their place in *result*, rounded unless it is of floats."""
        place = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        values = np.clip(planes.transpose(1, 2, 0), 0, 255)
        if result.dtype == np.float32:
            result[place] = values
            return
        np.rint(values * _level(result), out=result[place], casting="unsafe")
        if result.shape[2] == 4:
            hidden = result[place][..., 3] == 0
            # nobody sees these; they keep what they were
            y, x = (
                (2 * np.asarray(part) + 1) * small // (2 * large)
                for part, small, large in zip((rows, columns), self.pixels.shape, result.shape)
            )
            result[place][hidden, :3] = self.pixels[y[:, None], x][hidden, :3]

    def _window(self, rows: range, columns: range, context: int) -> tuple[tuple[slice, slice], Pixels]:
        """Return *rows* and *columns* with *context* on each side where there is any, and their place in that."""
        low = [max(part.start - context, 0) for part in (rows, columns)]
        window = self.pixels[low[0] : rows.stop + context, low[1] : columns.stop + context]
        own = tuple(slice(part.start - start, part.stop - start) for part, start in zip((rows, columns), low))
        return (own[0], own[1]), window

    def _enlarged(self, small: Pixels, sharpen: float) -> Pixels:
        large = np.empty((small.shape[0] * self.scale, small.shape[1] * self.scale, small.shape[2]), small.dtype)
        enlarge(small, large, sharpen)
        return large

    def _times(self, place: tuple[slice, ...]) -> tuple[slice, ...]:
        return tuple(slice(part.start * self.scale, part.stop * self.scale) for part in place)


class _Axis:
    """One axis that is enlarged from *small* to *large* pixels by way of small · *scale*."""

    def __init__(self, small: int, large: int, scale: int, tile: int) -> None:
        self._small, self._large, self._scale = small, large, scale
        self._step = tile * scale if large == small * scale else max(1, tile * large // small)
        self._first, self._weights = _taps(small * scale, large)

    def tiles(self) -> list[range]:
        """Return the tiles of the result along this axis."""
        return [range(start, min(start + self._step, self._large)) for start in range(0, self._large, self._step)]

    def part(self, outputs: range) -> tuple[range, Floats | None]:
        """Return the small pixels that *outputs* depend on, and the matrix to these from what they are enlarged to.

        None where nothing is left to do.
        """
        if self._large == self._small * self._scale:
            return range(outputs.start // self._scale, outputs.stop // self._scale), None
        first, weights = self._first[outputs.start : outputs.stop], self._weights[outputs.start : outputs.stop]
        last = self._small * self._scale - 1
        # beyond the edge the edge is repeated
        places = np.clip(first[:, None] + np.arange(weights.shape[1]), 0, last)
        inputs = range(int(places.min()) // self._scale, int(places.max()) // self._scale + 1)
        matrix = np.zeros((len(outputs), len(inputs) * self._scale))
        np.add.at(matrix, (np.arange(len(outputs))[:, None], places - inputs.start * self._scale), weights)
        return inputs, matrix.astype(np.float32)


def _taps(source: int, result: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return first input index (result,) and weights (result, n) from *source* to *result* pixels, centre-aligned.

    Lanczos, widened against aliasing where that makes smaller.
    """
    if result >= source:
        return taps(source, result, 0)
    ratio = source / result
    centres = (np.arange(result) + 0.5) * ratio - 0.5
    first = np.ceil(centres - _LOBES * ratio).astype(np.int64)
    count = int(np.floor(2 * _LOBES * ratio)) + 1
    weights = lanczos((first[:, None] + np.arange(count) - centres[:, None]) / ratio)
    return first, weights / weights.sum(axis=1, keepdims=True)


def _shown(small: Pixels) -> Pixels:
    """Return (rows, columns, 4) *small* with colours for what is hidden: the mean of those that are seen nearby."""
    colour, alpha = small[..., :3].astype(np.float64), small[..., 3].astype(np.float64)
    out = small.copy()
    left = small[..., 3] == 0
    out[left, :3] = 0
    for side in _SQUARES:
        # sums of whole numbers, which are exact: the same in every tile
        total, weight = (
            np.asarray(cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT))
            for values in (colour * alpha[..., None], alpha)
        )
        now = left & (weight > 0)
        out[now, :3] = np.rint(total[now] / weight[now, None])
        left &= ~now
    return out


def _is_grey(pixels: Pixels) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def _floats(pixels: Pixels) -> Floats:
    """Return the colours of *pixels* in levels of 0…255."""
    return np.asarray(pixels[..., :3] / _level(pixels), np.float32)


def _full(pixels: Pixels) -> int:
    return int(np.iinfo(pixels.dtype).max)


def _level(pixels: Pixels) -> np.float32:
    """Return what a level of 0…255 is in *pixels*."""
    return np.float32(1 if pixels.dtype == np.uint8 else LEVEL)
