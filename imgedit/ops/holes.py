"""Find the holes of a mask, cut a crop round each, and put the fill back by the mask's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

#: Holes closer than one cell always belong together; a cell is small enough to keep two lines of text apart.
CELL = 16
#: More groups than this are looked for on a coarser grid: joining boxes takes time with the square of their number.
MANY = 600


class Hole(NamedTuple):
    """The tight box round one group of masked pixels: rows top…bottom, columns left…right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def where(self) -> tuple[int, int, int, int]:
        """The box as (x, y, width, height)."""
        return (self.left, self.top, self.right - self.left, self.bottom - self.top)

    @property
    def slices(self) -> tuple[slice, slice]:
        return (slice(self.top, self.bottom), slice(self.left, self.right))

    def meets(self, rect: tuple[int, int, int, int], shape: tuple[int, ...]) -> bool:
        """Tell whether any pixel of the box lies in *rect*: x, y (negative: from the far edge of *shape*), size."""
        x, y = rect[0] % shape[1] if rect[0] < 0 else rect[0], rect[1] % shape[0] if rect[1] < 0 else rect[1]
        return self.left < x + rect[2] and x < self.right and self.top < y + rect[3] and y < self.bottom

    def grown(self, margin: int, shape: tuple[int, ...]) -> Hole:
        """Return the box with *margin* pixels of context on each side, clipped to a picture of *shape*."""
        top, left = max(self.top - margin, 0), max(self.left - margin, 0)
        return Hole(top, left, min(self.bottom + margin, shape[0]), min(self.right + margin, shape[1]))

    def within(self, crop: Hole) -> tuple[slice, slice]:
        """Return the slices of this box in the coordinates of *crop*."""
        rows = slice(self.top - crop.top, self.bottom - crop.top)
        return (rows, slice(self.left - crop.left, self.right - crop.left))


def find(mask: Plane, margin: int = 64) -> list[Hole]:
    """Return boxes that cover every pixel of *mask* (rows, columns) above 0, from top to bottom.

    No two boxes overlap, so each masked pixel is in exactly one of them. Two groups share a box when one
    crop with *margin* pixels of context costs no more pixels than two crops: the letters of a line become
    one box, two stamps in opposite corners stay two. Time follows the box round all of the mask.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return []
    part = mask[y : y + height, x : x + width]
    cell = CELL
    boxes = _cell_boxes(part, cell)
    while len(boxes) > MANY:
        cell *= 2
        boxes = _cell_boxes(part, cell)
    boxes = _merge(boxes, 0)
    tight = np.empty_like(boxes)
    for i, (top, left, bottom, right) in enumerate(boxes.tolist()):
        bx, by, bw, bh = cv2.boundingRect(part[top:bottom, left:right])
        tight[i] = (top + by, left + bx, top + by + bh, left + bx + bw)
    merged = _merge(tight + np.array((y, x, y, x)), margin)
    return sorted(Hole(*box) for box in merged.tolist())


def shown(hole: Hole, mask: Plane, margin: int, wanted: Callable[[Plane], int]) -> Hole:
    """Return the crop round *hole* of *mask* with *margin* pixels of context, or as many as are *wanted* for it.

    No more where that would show as much of other holes as this one is: whoever fills a crop fills all of it.
    """
    crop = hole.grown(margin, mask.shape)
    more = wanted(mask[crop.slices])
    if more <= margin:
        return crop
    wide = hole.grown(more, mask.shape)
    return wide if np.count_nonzero(mask[wide.slices]) <= 2 * np.count_nonzero(mask[hole.slices]) else crop


def _cell_boxes(part: Plane, cell: int) -> NDArray[np.int64]:
    """Return boxes (top, left, bottom, right) of groups connected on a grid of *cell* pixels."""
    rows, columns = part.shape
    # the maximum over cells in two passes: rows first, so that the long pass runs along memory
    cells = np.maximum.reduceat(part, np.arange(0, rows, cell), axis=0)
    cells = np.maximum.reduceat(cells, np.arange(0, columns, cell), axis=1)
    count, _, stats, _ = cv2.connectedComponentsWithStats((cells > 0).view(np.uint8), connectivity=8)
    left, top, width, height = (stats[1:count, i].astype(np.int64) for i in range(4))
    bottom = np.minimum((top + height) * cell, rows)
    right = np.minimum((left + width) * cell, columns)
    return np.stack([top * cell, left * cell, bottom, right], axis=1)


def _merge(boxes: NDArray[np.int64], margin: int) -> NDArray[np.int64]:
    """Join boxes that overlap, or whose joint crop has no more pixels than their crops apart, until none are left."""
    done: list[NDArray[np.int64]] = []
    rest = boxes[np.argsort(boxes[:, 0], kind="stable")]
    while len(rest):
        box, rest = rest[0], rest[1:]
        others = np.concatenate([rest, np.array(done, np.int64).reshape(-1, 4)])
        union = np.concatenate([np.minimum(others[:, :2], box[:2]), np.maximum(others[:, 2:], box[2:])], axis=1)
        overlap = (np.maximum(others[:, :2], box[:2]) < np.minimum(others[:, 2:], box[2:])).all(axis=1)
        join = overlap | ((_area(union, margin) <= _area(others, margin) + _area(box[None], margin)) & (margin > 0))
        if not join.any():
            done.append(box)
            continue
        # one partner at a time where only cost speaks for it: a union of many can cost more than its parts
        chosen = np.flatnonzero(overlap) if overlap.any() else np.flatnonzero(join)[:1]
        bigger = np.concatenate([union[chosen, :2].min(axis=0), union[chosen, 2:].max(axis=0)])
        left_over = np.delete(others, chosen, axis=0)
        done = []
        rest = np.concatenate([bigger[None], left_over])
    return np.array(done, np.int64).reshape(-1, 4)


def _area(boxes: NDArray[np.int64], margin: int) -> NDArray[np.int64]:
    size = boxes[:, 2:] - boxes[:, :2] + 2 * margin
    return np.asarray(size[:, 0] * size[:, 1])


def composite(pixels: Pixels, fill: Pixels, mask: Plane) -> Pixels:
    """Return round((pixels·(255 − mask) + fill·mask) / 255), exact in integers.

    *pixels*, *fill*: (rows, columns, 3), both uint8 or both uint16; *mask*: (rows, columns) uint8. Where the
    mask is 0 the pixel stays bit for bit, where it is 255 the fill is taken exactly.
    """
    out = pixels.copy()
    inside = mask > 0
    weight = mask[inside].astype(np.uint32)[:, None]
    # 255 is odd, so there are no ties: adding 127 before the integer division rounds to nearest
    out[inside] = (pixels[inside] * (255 - weight) + fill[inside] * weight + 127) // 255
    return out


def invented(hint: Plane | None, mask: Plane) -> Plane:
    """Return the plane ``hint`` after filling *mask*: 255 = photographed, 0 = invented.

    The minimum of *hint* (255 everywhere where there is none yet) and 0 where the mask is above 0.
    """
    out = np.full(mask.shape, 255, np.uint8) if hint is None else hint.copy()
    out[mask > 0] = 0
    return out
