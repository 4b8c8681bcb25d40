"""Limits on an enlarged picture: within the local range, and the input again when it is reduced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: input pixels of context that :func:`smooth_range` and :func:`relax` need: each step looks one further
RELAX_CONTEXT = 4
#: rounds of :func:`approach`; each looks one input and one output pixel further
APPROACH_ROUNDS = 2
#: of output pixels along an axis: the input pixel in which each lies, how far in, and the length of an input pixel
Places = tuple[NDArray[np.int64], NDArray[np.int64], int]
_SQUARE = np.ones((3, 3), np.uint8)


def local_range(picture: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the greatest value over 3×3 pixels of (rows, columns, channels) *picture*."""
    low, high = cv2.erode(picture, _SQUARE), cv2.dilate(picture, _SQUARE)
    return low.reshape(picture.shape), high.reshape(picture.shape)


def visible_range(picture: NDArray[Any], alpha: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return :func:`local_range` of the pixels whose *alpha* is above 0; where there are none, (∞, −∞)."""
    hidden = (alpha == 0)[..., None]
    low = cv2.erode(np.where(hidden, np.inf, picture), _SQUARE)
    return low, cv2.dilate(np.where(hidden, -np.inf, picture), _SQUARE)


def smooth_range(low: NDArray[Any], high: NDArray[Any], down: int, across: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return limits for each output pixel, (down, across, channels, rows, columns), within its input pixel's.

    *low*, *high*: (channels, rows, columns) integers, the range of the 3×3 pixels round each input pixel. In the
    middle of an input pixel the limits are its own, on its edges and corners the narrower of all that meet
    there, linear in between: steps from one input pixel to the next would be seen. They still enclose the
    input's own value, for those that meet all lie in each other's 3×3.
    """
    return _woven(low, down, across, np.maximum), _woven(high, down, across, np.minimum)


def smooth_range_at(
    low: NDArray[Any], high: NDArray[Any], rows: Places, columns: Places
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the limits of :func:`smooth_range` at any output pixels: (channels, rows, columns).

    *rows*, *columns*: for each output the input pixel in which it lies, how far in, and the length of one.
    """
    return _at(low, rows, columns, np.maximum), _at(high, rows, columns, np.minimum)


def relax(cells: NDArray[Any], wanted: NDArray[Any], low: NDArray[Any], high: NDArray[Any], slack: int) -> None:
    """Change *cells* in place to within their range, and their means smoothly to within *slack* of *wanted*, mostly.

    *cells*, *low*, *high*: (down, across, channels, rows, columns) integers, the output pixels of each input
    pixel; *wanted*: (channels, rows, columns). What a mean is off by is interpolated linearly between the
    middles of the cells, so that no cell moves as a block (Irani and Peleg 1991, with over-relaxation). Peaks
    and pits of the input, whose cells must nearly be flat, are then pulled to their limit, and their
    neighbours less and less with the distance. The outermost RELAX_CONTEXT cells are not to be used.
    """
    _cut(cells, low, high)
    _correct(cells, wanted, low, high, slack)
    _pull(cells, wanted, low, high, slack)
    _correct(cells, wanted, low, high, slack)


def settle(
    cells: NDArray[Any], wanted: NDArray[Any], low: NDArray[Any], high: NDArray[Any], weight: NDArray[Any], slack: int
) -> None:
    """Change *cells* in place, within their range, until each cell has the wanted mean, nearly.

    *cells*, *low*, *high*: (n, m) integers, the n output pixels of each of m input pixels, low ≤ cells ≤ high;
    *wanted*: (m,), with low ≤ wanted ≤ high; *weight*: (n,) positive integers. Afterwards
    |mean − wanted| ≤ slack + 1. Each value moves by a share of its room, the way to its limit: shares first in
    proportion to *weight*, as far as that leads, then equal.
    """
    bad = np.flatnonzero(_beyond(_off(cells, wanted), slack))
    if not len(bad):
        return
    values, goal, least, most = cells.take(bad, axis=1), wanted[bad], low.take(bad, axis=1), high.take(bad, axis=1)
    for weights in (weight[:, None], np.ones((len(weight), 1), np.int64)):
        off = _beyond(_off(values, goal), slack)
        room = np.where(off > 0, most, least).astype(np.int64) - values
        total = (room * weights).sum(axis=0)
        share = np.divide(off * np.float64(len(cells)), total, where=total != 0, out=np.zeros(len(off)))
        values += np.trunc(np.minimum(weights * share, 1) * room).astype(cells.dtype)
    cells[:, bad] = values


def approach(
    values: NDArray[Any],
    wanted: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    slack: int,
    reduce: Callable[[NDArray[Any]], NDArray[np.float64]],
    spread: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Change *values* in place to within *low* … *high*, and nearer to what *reduce* turns into *wanted*.

    For output pixels that lie in two inputs, where :func:`settle` cannot work: *reduce* gives the mean over
    each input pixel, *spread* takes corrections of inputs to outputs. All arrays but the means hold integers.
    """
    _cut(values, low, high)
    for _ in range(APPROACH_ROUNDS):
        correction = spread(np.rint(_beyond(wanted - reduce(values), slack)))
        values += np.rint(correction, out=correction).astype(values.dtype)
        _cut(values, low, high)


def _correct(cells: NDArray[Any], wanted: NDArray[Any], low: NDArray[Any], high: NDArray[Any], slack: int) -> None:
    """Add twice what the means of *cells* are off, interpolated; twice, as half of it goes to the neighbours."""
    down, across = cells.shape[:2]
    # so that products stay within the integers' range
    most = np.iinfo(cells.dtype).max // (2 * max(down, across)) - 1
    off = np.clip(np.rint(_beyond(_off(_flat(cells), wanted), slack)), -most, most).astype(cells.dtype)
    if not off.any():
        return
    for i, side, near in _sides(down):
        lines = _mix(off, _shifted(off, side, 1), down + near, down - near)
        beside = _shifted(lines, 0, 2), _shifted(lines, 1, 2)
        for j, other, close in _sides(across):
            values = cells[i, j]
            values += _mix(lines, beside[other], across + close, across - close, across)
            _cut(values, low[i, j], high[i, j])


def _pull(cells: NDArray[Any], wanted: NDArray[Any], low: NDArray[Any], high: NDArray[Any], slack: int) -> None:
    """Move the cells that are off towards their limits by the share of the way that mends their mean.

    On edges and corners the share is the largest of those that meet there.
    """
    off = _beyond(_off(_flat(cells), wanted), slack)
    if not off.any():
        return
    down, across = cells.shape[:2]
    mean = _off(_flat(cells), 0)
    room = np.abs(np.where(off > 0, _off(_flat(high), 0), _off(_flat(low), 0)) - mean)
    share = np.clip(np.divide(off, room, where=room > 0, out=np.zeros_like(room)), -1, 1)
    for i, j, shares in _phases(share, down, across, _farther):
        values = cells[i, j]
        way = shares * np.where(shares > 0, high[i, j] - values, values - low[i, j])
        values += np.rint(way, out=way).astype(cells.dtype)


def _farther(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return which of two shares is farther from 0, or their sum where their signs differ."""
    both: NDArray[Any] = np.maximum(np.maximum(one, other), 0) + np.minimum(np.minimum(one, other), 0)
    return both


def _woven(plane: NDArray[Any], down: int, across: int, extreme: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """Return :func:`_phases` in one array, (down, across, channels, rows, columns)."""
    result = np.empty((down, across, *plane.shape), plane.dtype)
    for i, j, values in _phases(plane, down, across, extreme):
        result[i, j] = values
    return result


def _phases(
    plane: NDArray[Any], down: int, across: int, extreme: Callable[..., NDArray[Any]]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield *plane*, (channels, rows, columns), at each of the down × across places in an input pixel.

    Linear between the value of a pixel in its middle and the *extreme* of those that meet at its edges and corners.
    """
    beside = [extreme(plane, _shifted(plane, side, 2)) for side in (0, 1)]
    for i, side, near in _sides(down):
        lines, *edges = (
            _mix(part, extreme(part, _shifted(part, side, 1)), near, down - near) for part in (plane, *beside)
        )
        for j, other, close in _sides(across):
            yield i, j, _mix(lines, edges[other], close, across - close)


def _at(plane: NDArray[Any], rows: Places, columns: Places, extreme: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """Return :func:`_phases` of *plane* at *rows* and *columns*."""
    parts = (plane, *(extreme(plane, _shifted(plane, side, 2)) for side in (0, 1)))
    middle, *edges = (_along(part, [extreme(part, _shifted(part, i, 1)) for i in (0, 1)], rows, 1) for part in parts)
    return _along(middle, edges, columns, 2)


def _along(middle: NDArray[Any], edges: list[NDArray[Any]], places: Places, axis: int) -> NDArray[Any]:
    """Return what is between *middle* and the nearer of *edges* at *places* along *axis*."""
    within, depth, length = places
    far = length - depth
    later, share = depth > far, (2 * np.minimum(depth, far) / length).astype(np.float32)
    if axis == 1:
        later, share = later[:, None], share[:, None]
    edge = np.where(later, edges[1].take(within, axis), edges[0].take(within, axis))
    way = share * (middle.take(within, axis) - edge)
    edge += np.rint(way, out=way).astype(edge.dtype)
    return edge


def _sides(scale: int) -> Iterator[tuple[int, int, int]]:
    """Yield, for each output pixel in an input pixel, its index, which edge is nearer, 0 or 1, and how far that is.

    In halves of an output pixel: *scale* in the middle.
    """
    for index in range(scale):
        side = int(2 * index >= scale)
        yield index, side, 2 * (scale - index) - 1 if side else 2 * index + 1


def _mix(one: NDArray[Any], other: NDArray[Any], a: int, b: int, divisor: int = 0) -> NDArray[Any]:
    """Return (a · *one* + b · *other*) / (a + b), or / *divisor*; integers rounded to the nearest."""
    divisor = divisor or a + b
    if one.dtype.kind == "f":
        return np.asarray(one * np.float32(a / divisor) + other * np.float32(b / divisor))
    total = one * one.dtype.type(a)
    total += other * one.dtype.type(b)
    total += divisor // 2
    if divisor & (divisor - 1):
        total //= divisor
    else:
        total >>= one.dtype.type(divisor.bit_length() - 1)
    return np.asarray(total)


def _shifted(planes: NDArray[Any], side: int, axis: int) -> NDArray[Any]:
    """Return each pixel's neighbour before (*side* 0) or after it (1) along *axis*; at the edge, itself."""
    ones = [slice(None)] * planes.ndim
    edge, rest = list(ones), list(ones)
    edge[axis] = slice(-1, None) if side else slice(0, 1)
    rest[axis] = slice(1, None) if side else slice(0, -1)
    parts = planes[tuple(edge)], planes[tuple(rest)]
    return np.concatenate(parts[::-1] if side else parts, axis=axis)


def _flat(cells: NDArray[Any]) -> NDArray[Any]:
    return cells.reshape(-1, *cells.shape[2:])


def _off(cells: NDArray[Any], wanted: NDArray[Any] | int) -> NDArray[np.float32]:
    """Return by how much the mean of each cell is below *wanted*."""
    total = np.multiply(wanted, len(cells), dtype=np.int32) - total_of(cells)
    return np.asarray(total.astype(np.float32) / np.float32(len(cells)))


def total_of(cells: NDArray[Any]) -> NDArray[np.int32]:
    """Return the sums of (n, …) *cells*, of which any eight add up to what their type holds; as int32."""
    # eight at a time in their own type: twice as fast
    parts = [np.add.reduce(cells[at : at + 8], axis=0, dtype=cells.dtype) for at in range(0, len(cells), 8)]
    total: NDArray[np.int32] = parts[0].astype(np.int32)
    for part in parts[1:]:
        total += part
    return total


def _beyond(off: NDArray[Any], slack: int) -> NDArray[Any]:
    """Return the part of *off* that exceeds ± *slack*."""
    return np.asarray(off - np.clip(off, -slack, slack))


def _cut(values: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    np.maximum(values, low, out=values)
    np.minimum(values, high, out=values)
