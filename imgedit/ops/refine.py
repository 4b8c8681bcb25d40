"""Enlarge by a small network that adds to the deterministic result what that lacks, tile by tile.

The network itself is handed in as a function, so that nothing here knows what runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit import spill
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
REACH, _GIVEN, _BACK, _SEEDED, _HIDDEN = 12, 3, 4, 15, 13
#: sides of the squares in which colours are looked for where all is hidden, smallest first
_SQUARES = (3, 9, 2 * _HIDDEN + 1)
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


class Refined:
    """*pixels* (rows, columns, 3 or 4; uint8 or uint16) enlarged to *size* (rows, columns), any part of it at a time.

    A fourth channel is straight alpha: it is enlarged without the network, and hidden colours have no effect on those
    that are seen. What is grey stays grey. No part depends on what else is made. *overlap*: show the network and what
    leads to it no more than so many small pixels round a part; less than :attr:`context` is not exact.
    """

    def __init__(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        network: Network,
        sharpen: float = SEED,
        beyond: Beyond = Beyond(),
        overlap: int | None = None,
    ) -> None:
        ratios = [large / small for small, large in zip(pixels.shape, size)]
        self._picture = _Picture(pixels, network, sharpen, max(ratios), beyond, overlap)
        self._axes = [_Axis(small, large, self.scale) for small, large in zip(pixels.shape, size)]
        self.size, self.ratios = size, (ratios[0], ratios[1])

    @property
    def scale(self) -> int:
        """The network's own scale that is used."""
        return self._picture.scale

    @property
    def step(self) -> int:
        """Parts begin at multiples of this: where the size is a multiple of the small one, at its pixels."""
        return math.lcm(*(axis.step for axis in self._axes))

    @property
    def context(self) -> int:
        """How many small pixels round a part it can depend on."""
        return self._picture.context + (_HIDDEN if self._picture.hidden else 0)

    def levels(self, rows: range, columns: range) -> Floats:
        """Return levels of 0…255, not rounded, of the result at *rows* and *columns*: (3 or 4, rows, columns)."""
        (inputs, vertical), (beside, horizontal) = (axis.part(part) for axis, part in zip(self._axes, (rows, columns)))
        planes = self._picture.levels(inputs, beside)
        if vertical is not None:
            planes = vertical @ planes
        if horizontal is not None:
            planes = planes @ horizontal.T
        return np.clip(planes, 0, 255)

    def write(self, result: Pixels, planes: Floats, top: int, left: int) -> None:
        """Write *planes* to *result*, rounded, from *top*, *left* on; there hidden colours keep what they were."""
        rows, columns = (range(start, start + count) for start, count in zip((top, left), planes.shape[1:]))
        place = result[rows.start : rows.stop, columns.start : columns.stop]
        block = spill.room(place)
        np.rint(planes.transpose(1, 2, 0) * _level(result), out=block, casting="unsafe")
        if result.shape[2] == 4:
            hidden = block[..., 3] == 0
            if hidden.any():
                # nobody sees these
                block[hidden, :3] = self._picture.nearest(rows, columns, self.size)[hidden, :3]
        spill.store(place, block)


class _Picture:
    """A picture that is enlarged by *scale*, the least of SCALES that is not less than *ratio*, or the greatest."""

    def __init__(
        self, pixels: Pixels, network: Network, sharpen: float, ratio: float, beyond: Beyond, overlap: int | None
    ) -> None:
        self.pixels, self.network, self.sharpen, self.beyond = pixels, network, sharpen, beyond
        self.scale = next((scale for scale in SCALES if scale >= ratio), SCALES[-1])
        self.grey = all(_is_grey(part) for part in spill.parts(pixels))
        self.hidden = pixels.shape[2] == 4
        self._back = _BACK * beyond.rounds
        reach = beyond.texture.reach(self.scale) if beyond.texture else 0
        self.context = self._back + max(REACH + _GIVEN, reach) + _SEEDED
        self._overlap = self.context + _HIDDEN if overlap is None else overlap

    def levels(self, rows: range, columns: range) -> Floats:
        """Return (3 or 4, …) levels of 0…255 of the small pixels at *rows* and *columns*, enlarged by the scale."""
        back = self._back
        own, small = self._window(rows, columns, min(self._overlap, self.context))
        hidden = small.shape[2] == 4 and not (small[..., 3] == _full(small)).all()
        if hidden:
            own, small = self._window(rows, columns, min(self._overlap, self.context + _HIDDEN))
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

    def nearest(self, rows: range, columns: range, size: tuple[int, int]) -> Pixels:
        """Return the pixels in which *rows* and *columns* of a result of *size* lie."""
        y, x = (
            (2 * np.asarray(part) + 1) * small // (2 * large)
            for part, small, large in zip((rows, columns), self.pixels.shape, size)
        )
        around = spill.fetch(self.pixels[y[0] : y[-1] + 1, x[0] : x[-1] + 1])
        near: Pixels = around[(y - y[0])[:, None], x - x[0]]
        return near

    def _window(self, rows: range, columns: range, context: int) -> tuple[tuple[slice, slice], Pixels]:
        """Return *rows* and *columns* with *context* on each side where there is any, and their place in that."""
        low = [max(part.start - context, 0) for part in (rows, columns)]
        window = spill.fetch(self.pixels[low[0] : rows.stop + context, low[1] : columns.stop + context])
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

    def __init__(self, small: int, large: int, scale: int) -> None:
        self._small, self._large, self._scale = small, large, scale
        self.step = scale if large == small * scale else 1
        self._first, self._weights = _taps(small * scale, large)

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
