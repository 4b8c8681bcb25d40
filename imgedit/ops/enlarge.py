"""Enlarging in tiles: interpolate, limit, write; no pixel depends on how the picture is tiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.errors import starting_threads
from imgedit.ops.limits import (
    APPROACH_ROUNDS,
    RELAX_CONTEXT,
    approach,
    local_range,
    relax,
    settle,
    smooth_range,
    smooth_range_at,
    total_of,
    visible_range,
)
from imgedit.ops.resample import BAND, MOST, REACH, Axis, Part, dense, taps

#: output rows and columns in a tile at whole scales, about
_TALL, _BROAD = 16 * BAND, 64 * BAND
#: input columns in a tile at whole scales, at most
_MOST = 16 * BAND
#: input rows and columns in a tile at other scales
_FRACTIONAL = 6 * BAND
#: input pixels of context that `approach` needs
_CONTEXT = 2 * APPROACH_ROUNDS
#: input pixels of context that `relax` needs; on both sides together a band, for tiles are whole numbers of bands
_ASIDE = BAND // 2
assert _ASIDE >= RELAX_CONTEXT
#: how far the mean over an input pixel may stay off, in 1/255 of full scale; rounding adds half a level at most.
#: The more, the smoother: noise of a level or two then needs no flat peaks
_SLACK = 0.85
#: the same where rounding would add so much that 1/255 is exceeded, and at scales that are not whole
_LITTLE = 0.375
#: parts of a level that values are whole numbers of, by full scale; odd, so that nothing lies half way and all
#: rounding is to the nearest
_UNIT = {255: 15, 65535: 1}
#: bytes
_KEPT = 16 << 20
#: tiles at work at once, at most: each needs memory
_THREADS = 4
#: of own colour, least, most
_EXTREMES = (np.minimum, np.minimum, np.maximum)


def enlarge(pixels: NDArray[Any], result: NDArray[Any], sharpen: float, threads: int | None = None) -> None:
    """Write *pixels* (rows, columns, 3 or 4; uint8 or uint16), enlarged to its size, into *result*.

    A fourth channel is straight alpha. Lanczos-3 with back-projection, within the local range, and as near
    as that allows to the input when it is reduced again. All sums are of whole numbers and exact, so the
    result is the same on every machine and mirrors with the picture. Works in so many *threads*, by default
    :func:`most_threads`, and needs memory for a few tiles in each.
    """
    threads = threads or most_threads()
    if pixels.shape == result.shape:
        spill.copy(pixels, result)
    elif all(large % small == 0 for small, large in zip(pixels.shape[:2], result.shape[:2])):
        _whole(pixels, result, sharpen, threads)
    else:
        _fractional(pixels, result, sharpen, threads)


def most_threads() -> int:
    """Return how many tiles are at work at once where nothing is said: as OpenCV may use threads, four at most."""
    return max(1, min(cv2.getNumThreads(), _THREADS))


# --- a tile of the input ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tile:
    """What is wanted of a tile, in planes (channels, rows, columns) of whole *unit* parts of a level.

    *values* has REACH pixels of context on each side; *low* and *high* are the local range, integers.
    Colours are premultiplied where the tile is not opaque; then *straight* holds the colours as they were,
    and least and greatest of those to be seen nearby.
    """

    full: int
    values: NDArray[np.float64]
    low: NDArray[Any]
    high: NDArray[Any]
    straight: tuple[NDArray[np.float64], ...] = ()

    @property
    def unit(self) -> int:
        return _UNIT[self.full]

    @property
    def top(self) -> int:
        return self.full * self.unit

    @property
    def wanted(self) -> NDArray[Any]:
        return self.values[:, REACH:-REACH, REACH:-REACH].astype(self.low.dtype)

    def parts(self, share: float) -> int:
        """Return *share* of 1/255 of full scale."""
        return round(share * self.top / 255)

    def inner(self) -> _Tile:
        """Return the tile without _ASIDE pixels on each side."""
        here = np.s_[:, _ASIDE:-_ASIDE, _ASIDE:-_ASIDE]
        straight = tuple(plane[here] for plane in self.straight)
        return replace(self, values=self.values[here], low=self.low[here], high=self.high[here], straight=straight)

    def at(self, rows: Part, columns: Part) -> _Tile:
        """Return the tile with the limits at each output pixel.

        Of colours that are to be seen, those of the input pixel in which its centre lies; where it lies between
        two, of both: the result must mirror with the picture.
        """
        places = [(part.within, part.depth, 2 * part.result) for part in (rows, columns)]
        low, high = smooth_range_at(self.low, self.high, *places)
        before = [np.maximum(part.within - (part.depth == 0), 0) for part in (rows, columns)]

        def limit(plane: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
            plane = extreme(plane[:, before[0]], plane[:, rows.within])
            return np.asarray(extreme(plane[:, :, before[1]], plane[:, :, columns.within]))

        straight = tuple(limit(plane, extreme) for plane, extreme in zip(self.straight, _EXTREMES))
        return replace(self, low=low, high=high, straight=straight)

    def levels(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return *values* (…, channels, rows, columns) as straight pixel values, rounded to the nearest level."""
        if self.straight:
            own, least, most = self.straight
            alpha = values[..., 3:, :, :]
            colour = np.rint(values[..., :3, :, :] * (self.top / np.maximum(alpha, 1)))
            # where nothing is to be seen nearby, least is ∞: the colour stays what it was
            colour = np.where(least > most, own, np.clip(np.where(alpha > 0, colour, own), least, most))
            values = np.concatenate((colour.astype(values.dtype), alpha), axis=-3)
        return self.stored(self.rounded(values))

    def stored(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Return *levels* in the picture's type."""
        return levels.astype(np.uint8 if self.full == 255 else np.uint16)

    def rounded(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return *values* in levels, rounded to the nearest."""
        half, unit = np.array((self.unit // 2, self.unit), values.dtype)
        return (values + half) // unit if self.unit > 1 else values


def _tile(pixels: NDArray[Any], rows: range, columns: range) -> _Tile:
    """Return the tile of *pixels* at *rows* and *columns*; beyond the edge the edge is repeated."""
    full = 255 if pixels.itemsize == 1 else 65535
    unit, kind = _UNIT[full], np.dtype(f"i{2 * pixels.itemsize}")
    window = _window(pixels, rows, columns)
    near, inner = slice(REACH - 1, 1 - REACH), slice(1, -1)
    if window.shape[2] == 3 or (window[..., 3] == full).all():
        low, high = (_planes(limit[inner, inner], unit, kind) for limit in local_range(window[near, near]))
        return _Tile(full, _planes(window, unit), low, high)
    straight = window * float(unit)
    values = straight.copy()
    values[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / (full * unit)))
    low, high = (_planes(limit[inner, inner], 1, kind) for limit in local_range(values[near, near]))
    colour = straight[near, near, :3]
    seen = colour, *visible_range(colour, straight[near, near, 3])
    return _Tile(full, _planes(values), low, high, tuple(_planes(plane[inner, inner]) for plane in seen))


def _window(pixels: NDArray[Any], rows: range, columns: range) -> NDArray[Any]:
    """Return *pixels* at *rows* and *columns* and REACH further on each side, the edges repeated."""
    high, wide, _ = pixels.shape
    top, bottom, left, right = rows.start - REACH, rows.stop + REACH, columns.start - REACH, columns.stop + REACH
    inside = spill.fetch(pixels[max(top, 0) : min(bottom, high), max(left, 0) : min(right, wide)])
    missing = max(-top, 0), max(bottom - high, 0), max(-left, 0), max(right - wide, 0)
    return cv2.copyMakeBorder(inside, *missing, cv2.BORDER_REPLICATE) if any(missing) else inside


def _planes(picture: NDArray[Any], unit: int = 1, kind: Any = np.float64) -> NDArray[Any]:
    planes: NDArray[Any] = np.multiply(picture.transpose(2, 0, 1), unit, dtype=kind, order="C", casting="unsafe")
    return planes


# --- whole scales: the output is one plane per phase, each the size of the input -------------------------


def _whole(pixels: NDArray[Any], result: NDArray[Any], sharpen: float, threads: int) -> None:
    down, across = (large // small for small, large in zip(pixels.shape[:2], result.shape[:2]))
    vertical, horizontal = _phases(down, sharpen), _phases(across, sharpen)
    weight = np.outer(_hump(down), _hump(across)).reshape(-1)

    def work(rows: range, columns: range) -> None:
        tile = _tile(pixels, _banded(rows), _banded(columns))
        cells = _cells(tile.values, vertical, horizontal, tile.top).astype(tile.low.dtype, order="C")
        cells = cells.reshape(down, across, *tile.low.shape)
        low, high = smooth_range(tile.low, tile.high, down, across)
        relax(cells, tile.wanted, low, high, tile.parts(_SLACK))
        here = np.s_[..., _ASIDE:-_ASIDE, _ASIDE:-_ASIDE]
        cells, low, high = (array[here].reshape(down * across, -1) for array in (cells, low, high))
        levels = _settled(tile.inner(), cells, low, high, weight)
        _write(result, levels, rows, columns, (down, across))

    tall, broad = (max(size // (BAND * scale), 1) * BAND for size, scale in ((_TALL, down), (_BROAD, across)))
    _each_tile(work, pixels, tall, min(broad, _MOST), threads)


def _settled(
    tile: _Tile, cells: NDArray[Any], low: NDArray[Any], high: NDArray[Any], weight: NDArray[Any]
) -> NDArray[Any]:
    """Return *cells* in levels: (n, channels, rows, columns), with means within 1/255 of *tile*'s."""
    wanted = tile.wanted.reshape(-1)
    settle(cells, wanted, low, high, weight, tile.parts(_SLACK))
    levels = tile.rounded(cells)
    if tile.unit > 1:
        off = total_of(levels) * tile.unit - wanted.astype(np.int32) * len(cells)
        # less slack for those that rounding has moved too far
        bad = np.flatnonzero(np.abs(off) >= tile.parts(1) * len(cells))
        values = cells[:, bad]
        settle(values, wanted[bad], low[:, bad], high[:, bad], weight, tile.parts(_LITTLE))
        cells[:, bad] = values
        levels[:, bad] = tile.rounded(values)
    if tile.straight:
        return tile.levels(cells.reshape(-1, *tile.low.shape))
    return tile.stored(levels).reshape(-1, *tile.low.shape)


def _hump(scale: int) -> NDArray[np.int64]:
    """Return weights of the output pixels along an input pixel: a parabola that is 0 at the edges."""
    odd = 2 * np.arange(scale) + 1
    return odd * (2 * scale - odd)


def _each_tile(work: Callable[[range, range], None], pixels: NDArray[Any], tall: int, broad: int, threads: int) -> None:
    """Do *work* on the rows and columns of each tile, some at a time; each writes to its own place."""
    # once a large block has been freed, glibc keeps blocks up to its size for reuse rather than give them back to
    # the system at each tile: 1.6 times as fast
    np.empty(_KEPT, np.uint8)
    if threads == 1:
        for tile in _tiles(pixels, tall, broad):
            work(*tile)
        return
    with starting_threads(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda tile: work(*tile), _tiles(pixels, tall, broad)):
            pass


def _tiles(pixels: NDArray[Any], tall: int, broad: int) -> Iterator[tuple[range, range]]:
    """Yield the rows and columns of each tile."""
    high, wide, _ = pixels.shape
    for top in range(0, high, tall):
        for left in range(0, wide, broad):
            yield range(top, min(top + tall, high)), range(left, min(left + broad, wide))


def _banded(pixels: range) -> range:
    """Return *pixels* lengthened to a whole number of bands, and by _ASIDE on each side."""
    return range(pixels.start - _ASIDE, pixels.start - (-len(pixels) // BAND) * BAND + _ASIDE)


def _phases(scale: int, sharpen: float) -> NDArray[np.float64]:
    """Return the weights of any band: (scale, outputs, inputs with REACH on each side)."""
    matrix = dense(*taps(BAND, BAND * scale, sharpen), -REACH, BAND + 2 * REACH)
    return matrix.reshape(BAND, scale, -1).transpose(1, 0, 2)


def _cells(
    values: NDArray[np.float64], vertical: NDArray[np.float64], horizontal: NDArray[np.float64], top: int
) -> NDArray[Any]:
    """Return *values* enlarged, whole numbers 0…*top*: (down, across, channels, bands, rows, bands, columns)."""
    channels, down, across = len(values), len(vertical), len(horizontal)
    weights = horizontal.reshape(across * BAND, -1).T
    lines = vertical[:, None, None] @ _bands(values, 1)
    np.rint(lines, out=lines)
    together = channels * BAND if channels * BAND * weights.size <= MOST else BAND
    product = _bands(lines.reshape(-1, together, lines.shape[-1]), 2) @ weights
    np.clip(np.rint(product, out=product), 0, top, out=product)
    product = product.reshape(-1, down, lines.shape[1], channels, BAND, across, BAND)
    return product.transpose(1, 5, 3, 2, 4, 0, 6)


def _bands(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return overlapping views of *array*, one for each band along *axis*: (bands, …)."""
    shape = list(array.shape)
    shape[axis] = BAND + 2 * REACH
    bands = (array.shape[axis] - 2 * REACH) // BAND
    strides = BAND * array.strides[axis], *array.strides
    return np.lib.stride_tricks.as_strided(array, (bands, *shape), strides, writeable=False)


def _write(result: NDArray[Any], cells: NDArray[Any], rows: range, columns: range, scale: tuple[int, int]) -> None:
    """Weave *cells* (down · across, channels, rows, columns or more) into *result*."""
    down, across = scale
    x = slice(columns.start * across, columns.stop * across)
    for phase in range(down):
        planes = cells[phase * across : (phase + 1) * across, :, : len(rows), : len(columns)]
        woven = cv2.merge([np.ascontiguousarray(plane) for column in planes for plane in column])
        target = result[rows.start * down + phase : rows.stop * down : down, x]
        spill.store(target, woven.reshape(target.shape))


# --- any other scale ---------------------------------------------------------------------------------------


def _fractional(pixels: NDArray[Any], result: NDArray[Any], sharpen: float, threads: int) -> None:
    vertical, horizontal = (Axis(pixels.shape[i], result.shape[i], sharpen) for i in (0, 1))

    def work(inner_rows: range, inner_columns: range) -> None:
        rows, columns = vertical.part(inner_rows, _CONTEXT), horizontal.part(inner_columns, _CONTEXT)
        tile = _tile(pixels, rows.inputs, columns.inputs)
        values = columns.enlarge(_turned(rows.enlarge, tile.values))
        values = np.clip(values, 0, tile.top, out=values).astype(tile.low.dtype)
        tile = tile.at(rows, columns)
        approach(values, tile.wanted, tile.low, tile.high, tile.parts(_LITTLE), *_there_and_back(rows, columns))
        levels = tile.levels(values)[:, rows.keep, columns.keep].transpose(1, 2, 0)
        spill.store(result[rows.target, columns.target], levels)

    _each_tile(work, pixels, _FRACTIONAL, _FRACTIONAL, threads)


def _there_and_back(
    rows: Part, columns: Part
) -> tuple[Callable[[NDArray[Any]], NDArray[np.float64]], Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Return the mean of output pixels over each input pixel, and linear interpolation, for a tile."""

    def reduce(values: NDArray[Any]) -> NDArray[np.float64]:
        return _turned(rows.reduce, columns.reduce(values)) / (rows.result * columns.result)

    def spread(lines: NDArray[np.float64]) -> NDArray[np.float64]:
        values = columns.spread(_turned(rows.spread, lines))
        return np.divide(values, 4 * rows.result * columns.result, out=values)

    return reduce, spread


def _turned(
    along: Callable[[NDArray[np.float64]], NDArray[np.float64]], planes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Apply *along*, which works along rows, along columns."""
    return along(planes.swapaxes(1, 2)).swapaxes(1, 2)
