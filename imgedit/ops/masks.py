"""Masks: drawn from polygons, cleaned, grown, laid on a grid, feathered. (rows, columns) uint8, 255 = change.

All work on the smallest crop round what is set, so that the cost follows the mask and not the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.ops.depth import to8

Plane = NDArray[np.uint8]


def empty(rows: int, columns: int) -> Plane:
    """Return a mask that keeps everything."""
    return np.zeros((rows, columns), np.uint8)


def invert(mask: Plane) -> Plane:
    """Return *mask* with changed and kept exchanged."""
    return np.asarray(255 - mask)


def points(polygon: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return corners ((x, y), …) as an (n, 2) array; what is beyond 10⁸ pixels is brought there."""
    return np.clip(np.array(polygon, np.float64).reshape(-1, 2), -1e8, 1e8)


def box(polygon: NDArray[Any]) -> NDArray[Any]:
    """Return the corners of the upright box of whole pixels round *polygon*."""
    (left, top), (right, bottom) = np.floor(polygon.min(axis=0)), np.ceil(polygon.max(axis=0))
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def draw(mask: Plane, polygon: NDArray[Any]) -> bool:
    """Set to 255, in place, the pixels whose centre lies in *polygon*; return whether there are any.

    *polygon*: (n, 2) of (x, y) in coordinates of pixel edges, (0, 0) the top left corner; even-odd rule.
    """
    rows, columns = mask.shape
    top = min(max(math.ceil(polygon[:, 1].min() - 0.5), 0), rows)
    bottom = min(max(math.ceil(polygon[:, 1].max() - 0.5), top), rows)
    left = min(max(math.ceil(polygon[:, 0].min() - 0.5), 0), columns)
    right = min(max(math.ceil(polygon[:, 0].max() - 0.5), left), columns)
    if bottom <= top or right <= left:
        return False
    # one column more: crossings right of the crop close what they opened
    crossings = np.zeros((bottom - top, right - left + 1), np.uint8)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
        (x0, y0), (x1, y1) = (start, end) if start[1] <= end[1] else (end, start)
        first = min(max(math.ceil(y0 - 0.5), top), bottom)
        last = min(max(math.ceil(y1 - 0.5), top), bottom)
        if last > first:
            lines = np.arange(first, last)
            x = x0 + (lines + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            column = np.clip(np.ceil(x - 0.5), left, right).astype(np.intp) - left
            crossings[lines - top, column] ^= 1
    inside = np.bitwise_xor.accumulate(crossings[:, :-1], axis=1)
    mask[top:bottom, left:right] |= inside * np.uint8(255)
    return bool(inside.any())


def draw_covering(mask: Plane, polygon: NDArray[Any]) -> None:
    """Draw *polygon*, or the pixels that it touches where it is too small to hold the centre of one."""
    if not draw(mask, polygon):
        draw(mask, box(polygon))


def draw_rect(mask: Plane, rect: tuple[int, int, int, int]) -> bool:
    """Set a rectangle (x, y, width, height) to 255, in place; return whether any of it lies in the picture.

    A negative x or y counts from the right or bottom edge: -200, -50, 200, 50 is the last corner.
    """
    rows, columns = mask.shape
    x, y, width, height = rect
    x, y = x + columns if x < 0 else x, y + rows if y < 0 else y
    part = mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    part[...] = 255
    return part.size > 0


def of_picture(pixels: NDArray[Any], alpha: NDArray[Any] | None) -> Plane:
    """Return (rows, columns, 3) *pixels* read as a mask: white is 255, black and what is transparent 0.

    A picture of one colour has its mask in *alpha*: opaque is 255.
    """
    size = pixels.shape[:2]

    def grey(part: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.cvtColor(to8(part), cv2.COLOR_RGB2GRAY))

    values = spill.made(grey, size, np.uint8, pixels)
    if alpha is None:
        return values
    opaque = spill.made(to8, size, np.uint8, alpha)
    if not _varies(values) and _varies(opaque):
        return opaque

    def seen(part: Plane, over: Plane) -> NDArray[Any]:
        return np.asarray(cv2.multiply(part, over, scale=1 / 255))

    return spill.made(seen, size, np.uint8, values, opaque)


def _varies(plane: Plane) -> bool:
    return len({value for part in spill.parts(plane) for value in (part.min(), part.max())}) > 1


def threshold(mask: Plane, level: int) -> Plane:
    """Return 255 where *mask* is at least *level*, else 0."""
    return np.asarray(cv2.threshold(mask, level - 1, 255, cv2.THRESH_BINARY)[1])


def remove_specks(mask: Plane, least: int) -> Plane:
    """Return *mask* without the connected pieces (8 neighbours) of fewer than *least* pixels."""
    crop = _extent(mask, 0)
    if least <= 1 or crop is None:
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[crop], connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    return _put(mask, crop, np.where(keep[labels], mask[crop], 0))


def fill_holes(mask: Plane) -> Plane:
    """Return *mask* with everything set that it encloses (what cannot be left in 4 steps without crossing it)."""
    crop = _extent(mask, 0)
    if crop is None:
        return mask
    ground = np.pad((mask[crop] == 0).view(np.uint8), 1, constant_values=1)
    cv2.floodFill(ground, None, (0, 0), 2)
    return _put(mask, crop, np.where(ground[1:-1, 1:-1] == 1, 255, mask[crop]))


def close(mask: Plane, radius: int) -> Plane:
    """Return *mask* with gaps of up to 2 × *radius* pixels closed; nothing that was set is lost."""
    crop = _extent(mask, 2 * radius + 1)
    if radius < 1 or crop is None:
        return mask
    # grown, then shrunk by the same distance; beyond the picture counts as set, so that its edge is kept
    grown = dilate(mask[crop], radius)
    shrunk = 255 - dilate(255 - grown, radius)
    return _put(mask, crop, np.maximum(shrunk, mask[crop]))


def dilate(mask: Plane, radius: int) -> Plane:
    """Return *mask* grown by *radius* pixels in every direction (round, 3×3 for a radius of 1)."""
    crop = _extent(mask, radius)
    if radius < 1 or crop is None:
        return mask
    return _put(mask, crop, cv2.dilate(mask[crop], _disc(radius)) if radius <= 8 else _dilate_far(mask[crop], radius))


def to_grid(mask: Plane, cell: int, grow: int) -> Plane:
    """Return *mask* in whole cells of *cell* × *cell* pixels: 255 in each that holds any pixel above 0.

    Then grown by *grow* cells in every direction, diagonals too. Cells start at the top left corner; at the right and
    bottom edge they may be cut. No stroke is lost, however thin: reduction by maximum, not by sampling.
    """
    crop = _extent(mask, grow * cell, cell)
    if crop is None:
        return mask
    part = mask[crop]
    rows, columns = part.shape
    padded = np.pad(part, ((0, -rows % cell), (0, -columns % cell)))
    cells = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).max(axis=(1, 3))
    cells = (cells > 0).view(np.uint8) * np.uint8(255)
    if grow:
        cells = np.asarray(cv2.dilate(cells, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8)))
    return _put(mask, crop, cells.repeat(cell, axis=0).repeat(cell, axis=1)[:rows, :columns])


def feather(mask: Plane, width: float) -> Plane:
    """Return *mask* with weights that fall off outside it: 255 × (1 - d / (width + 1)) at d pixels from its 255s.

    Nothing that was set is reduced; the last weight above 0 is *width* pixels away.
    """
    crop = _extent(mask, math.ceil(width) + 1)
    if width <= 0 or crop is None:
        return mask
    distance = cv2.distanceTransform((mask[crop] < 255).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weights = np.rint(np.maximum(1 - distance / np.float32(width + 1), 0) * np.float32(255)).astype(np.uint8)
    return _put(mask, crop, np.maximum(weights, mask[crop]))


def combine(old: Plane, new: Plane, mode: str) -> Plane:
    """Return *new* (replace), or *old* with it added, subtracted or intersected; weights by maximum and minimum."""
    if mode == "add":
        return np.asarray(np.maximum(old, new))
    if mode == "subtract":
        return np.asarray(np.minimum(old, 255 - new))
    return np.asarray(np.minimum(old, new)) if mode == "intersect" else new


def _extent(mask: Plane, margin: int, align: int = 1) -> tuple[slice, slice] | None:
    """Return the slices of what is above 0 with *margin*, starting at multiples of *align*; None of an empty mask."""
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return None
    top, left = (max(start - margin, 0) // align * align for start in (y, x))
    bottom, right = (-(-(end + margin) // align) * align for end in (y + height, x + width))
    return slice(top, min(bottom, mask.shape[0])), slice(left, min(right, mask.shape[1]))


def _put(mask: Plane, crop: tuple[slice, slice], part: NDArray[Any]) -> Plane:
    result = np.zeros_like(mask)
    result[crop] = part
    return result


def _disc(radius: int) -> Plane:
    steps = np.arange(-radius, radius + 1)
    return (np.hypot(steps[:, None], steps[None, :]) <= radius + 0.5).astype(np.uint8)


def _dilate_far(mask: Plane, radius: int) -> Plane:
    """Grow by a distance transform: its cost does not follow the radius. Weights grow to 255."""
    distance = cv2.distanceTransform((mask == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.maximum((distance <= radius + 0.5).view(np.uint8) * np.uint8(255), mask))
