"""Enlarging in tiles: interpolate, limit, write; no pixel depends on how the picture is tiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.limits import APPROACH_ROUNDS, approach, local_range, settle, visible_range
from imgedit.ops.resample import BAND, MOST, REACH, Axis, Part, dense, taps

#: input pixels in a tile; at whole scales a whole number of bands
_ROWS, _COLUMNS = 2 * BAND, 16 * BAND
_FRACTIONAL = 6 * BAND
#: input pixels of context that `approach` needs
_CONTEXT = 2 * APPROACH_ROUNDS
#: how far the mean over an input pixel may stay off, in 1/255 of full scale; rounding adds half a level
_SLACK = 0.375
#: parts of a level that values are whole numbers of, by full scale; odd, so that nothing lies half way and all
#: rounding is to the nearest
_UNIT = {255: 15, 65535: 1}
#: of own colour, least, most
_EXTREMES = (np.minimum, np.minimum, np.maximum)


def enlarge(pixels: NDArray[Any], result: NDArray[Any], sharpen: float) -> None:
    """Write *pixels* (rows, columns, 3 or 4; uint8 or uint16), enlarged to its size, into *result*.

    A fourth channel is straight alpha. Lanczos-3 with back-projection, within the local range, and as near
    as that allows to the input when it is reduced again. All sums are of whole numbers and exact, so the
    result is the same on every machine and mirrors with the picture. Needs memory for a few tiles.
    """
    if pixels.shape == result.shape:
        result[:] = pixels
    elif all(large % small == 0 for small, large in zip(pixels.shape[:2], result.shape[:2])):
        _whole(pixels, result, sharpen)
    else:
        _fractional(pixels, result, sharpen)


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

    @property
    def slack(self) -> int:
        return round(_SLACK * self.full * self.unit / 255)

    def at(self, rows: Part, columns: Part) -> _Tile:
        """Return the tile with the limits of the input pixel in which each output pixel's centre lies.

        Where it lies between two, those of both: the result must mirror with the picture.
        """

        def limit(plane: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
            if (rows.before != rows.after).any():
                plane = extreme(plane[:, rows.before], plane[:, rows.after])
            else:
                plane = plane[:, rows.after]
            if (columns.before != columns.after).any():
                return np.asarray(extreme(plane[:, :, columns.before], plane[:, :, columns.after]))
            return plane[:, :, columns.after]

        straight = tuple(limit(plane, extreme) for plane, extreme in zip(self.straight, _EXTREMES))
        return replace(self, low=limit(self.low, np.minimum), high=limit(self.high, np.maximum), straight=straight)

    def levels(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return *values* (…, channels, rows, columns) as straight pixel values, rounded to the nearest level."""
        if self.straight:
            own, least, most = self.straight
            alpha = values[..., 3:, :, :]
            colour = np.rint(values[..., :3, :, :] * (self.top / np.maximum(alpha, 1)))
            # where nothing is to be seen nearby, least is ∞: the colour stays what it was
            colour = np.where(least > most, own, np.clip(np.where(alpha > 0, colour, own), least, most))
            values = np.concatenate((colour.astype(values.dtype), alpha), axis=-3)
        half, unit = np.array((self.unit // 2, self.unit), values.dtype)
        values = (values + half) // unit if self.unit > 1 else values
        return values.astype(np.uint8 if self.full == 255 else np.uint16)


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
    inside = pixels[max(top, 0) : min(bottom, high), max(left, 0) : min(right, wide)]
    missing = max(-top, 0), max(bottom - high, 0), max(-left, 0), max(right - wide, 0)
    return cv2.copyMakeBorder(inside, *missing, cv2.BORDER_REPLICATE) if any(missing) else inside


def _planes(picture: NDArray[Any], unit: int = 1, kind: Any = np.float64) -> NDArray[Any]:
    planes: NDArray[Any] = np.multiply(picture.transpose(2, 0, 1), unit, dtype=kind, order="C", casting="unsafe")
    return planes


# --- whole scales: the output is one plane per phase, each the size of the input -------------------------


def _whole(pixels: NDArray[Any], result: NDArray[Any], sharpen: float) -> None:
    down, across = (large // small for small, large in zip(pixels.shape[:2], result.shape[:2]))
    vertical, horizontal = _phases(down, sharpen), _phases(across, sharpen)
    for rows, columns in _tiles(pixels, _ROWS, _COLUMNS):
        tile = _tile(pixels, _banded(rows), _banded(columns))
        cells = _cells(tile.values, vertical, horizontal, tile.top).astype(tile.low.dtype, order="C")
        cells = cells.reshape(down * across, *tile.low.shape)
        settle(cells, tile.wanted, tile.low, tile.high, tile.slack)
        _write(result, tile.levels(cells), rows, columns, (down, across))


def _tiles(pixels: NDArray[Any], tall: int, broad: int) -> Iterator[tuple[range, range]]:
    """Yield the rows and columns of each tile."""
    high, wide, _ = pixels.shape
    for top in range(0, high, tall):
        for left in range(0, wide, broad):
            yield range(top, min(top + tall, high)), range(left, min(left + broad, wide))


def _banded(pixels: range) -> range:
    """Return *pixels* lengthened to a whole number of bands."""
    return range(pixels.start, pixels.start - (-len(pixels) // BAND) * BAND)


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
        target[:] = woven.reshape(target.shape)


# --- any other scale ---------------------------------------------------------------------------------------


def _fractional(pixels: NDArray[Any], result: NDArray[Any], sharpen: float) -> None:
    vertical, horizontal = (Axis(pixels.shape[i], result.shape[i], sharpen) for i in (0, 1))
    for inner_rows, inner_columns in _tiles(pixels, _FRACTIONAL, _FRACTIONAL):
        rows, columns = vertical.part(inner_rows, _CONTEXT), horizontal.part(inner_columns, _CONTEXT)
        tile = _tile(pixels, rows.inputs, columns.inputs)
        values = columns.enlarge(_turned(rows.enlarge, tile.values))
        values = np.clip(values, 0, tile.top, out=values).astype(tile.low.dtype)
        tile = tile.at(rows, columns)
        approach(values, tile.wanted, tile.low, tile.high, tile.slack, *_there_and_back(rows, columns))
        result[rows.target, columns.target] = tile.levels(values)[:, rows.keep, columns.keep].transpose(1, 2, 0)


def _there_and_back(
    rows: Part, columns: Part
) -> tuple[Callable[[NDArray[Any]], NDArray[np.float64]], Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Return the mean of output pixels over each input pixel, and its converse, for a tile."""

    def reduce(values: NDArray[Any]) -> NDArray[np.float64]:
        return _turned(rows.reduce, columns.reduce(values)) / (rows.result * columns.result)

    def spread(lines: NDArray[np.float64]) -> NDArray[np.float64]:
        values = columns.spread(_turned(rows.spread, lines))
        return np.divide(values, rows.source * columns.source, out=values)

    return reduce, spread


def _turned(
    along: Callable[[NDArray[np.float64]], NDArray[np.float64]], planes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Apply *along*, which works along rows, along columns."""
    return along(planes.swapaxes(1, 2)).swapaxes(1, 2)
