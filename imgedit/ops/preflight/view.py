"""One hole with its surroundings: a crop at full size, or all of it reduced, of a bounded number of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.depth import to8
from imgedit.ops.holes import Hole

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Map = NDArray[np.float32]

MARGIN = 40  # pixels of context, in the view's own scale
NEAR = 224  # pixels: side of a crop at full size
WHOLE = 80 << 10  # pixels of an overview
#: two pixels away from the hole, neither it nor its antialiased rim is measured
CLEAR = 2


@dataclass(slots=False)
class View:
    """A crop: *rgb* (rows, columns, 3) uint8, *inside* (rows, columns) uint8, 1 = hole.

    *scale*: pixels of the picture per pixel here. *most*: the largest value of the mask here.
    """

    rgb: Plane
    inside: Plane
    scale: int
    most: int

    @cached_property
    def away(self) -> Map:
        """Distance of each pixel outside to the hole, pixels; 0 inside."""
        return np.asarray(cv2.distanceTransform(1 - self.inside, cv2.DIST_L2, 3))

    @cached_property
    def depth(self) -> Map:
        """Distance of each pixel inside to the rim, pixels; 0 outside. What is beyond the picture counts as outside."""
        return np.asarray(cv2.distanceTransform(np.pad(self.inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1])

    @cached_property
    def luma(self) -> Map:
        return np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY), np.float32)

    @cached_property
    def clear(self) -> NDArray[np.bool_]:
        """The pixels outside that the hole's rim has not reached."""
        return np.asarray(self.away > CLEAR)

    @cached_property
    def width(self) -> float:
        """The widest part of the hole, pixels here."""
        return 2 * float(self.depth.max()) - 1


def cut(pixels: Pixels, mask: Plane, box: Hole) -> View:
    """Return *box* with its context at full size; of a larger one a part with some of the rim in its middle."""
    size = (box.bottom - box.top + 2 * MARGIN) * (box.right - box.left + 2 * MARGIN)
    around = box.grown(MARGIN, mask.shape)
    if size > WHOLE:
        row = (box.top + box.bottom) // 2
        found = np.flatnonzero(mask[row, box.left : box.right])
        column = box.left + (int(found[0]) if len(found) else (box.right - box.left) // 2)
        half = NEAR // 2
        top, left = max(row - half, around.top), max(column - half, around.left)
        around = Hole(top, left, min(top + NEAR, around.bottom), min(left + NEAR, around.right))
    return _view(pixels[around.slices], mask[around.slices], 1)


def overview(pixels: Pixels, mask: Plane, box: Hole) -> View:
    """Return *box* with its context, reduced to at most WHOLE pixels: by an even number, which is quick."""
    rows, columns = box.bottom - box.top, box.right - box.left
    scale = 1
    while (rows / scale + 2 * MARGIN) * (columns / scale + 2 * MARGIN) > WHOLE:
        scale += scale % 2 or 2
    around = box.grown(MARGIN * scale, mask.shape)
    # whole blocks: what is over is left out on the side away from the picture's edge, where a hole may be
    down, across = ((around.bottom - around.top) % scale, (around.right - around.left) % scale)
    if around.bottom == mask.shape[0] and around.bottom - around.top >= scale:
        around = around._replace(top=around.top + down)
    if around.right == mask.shape[1] and around.right - around.left >= scale:
        around = around._replace(left=around.left + across)
    return _view(pixels[around.slices], mask[around.slices], scale)


def _view(pixels: Pixels, mask: Plane, scale: int) -> View:
    """Return a view reduced by *scale*, 1 or even: the mean of four pixels of each block; more than one of the mask."""
    most = int(mask.max())
    inside = (mask > 0).view(np.uint8)
    if scale > 1:
        # of large blocks every other pixel, or one in three, …, says enough
        pixels, inside = _reduced(pixels, scale), (_reduced(inside * np.uint8(255), scale) > 64).view(np.uint8)
    return View(to8(np.ascontiguousarray(pixels)), inside, scale, most)


def _reduced(values: Pixels, scale: int) -> Pixels:
    """Return the means of four pixels of each whole block."""
    rows, columns = (max(n // scale, 1) for n in values.shape[:2])
    values = values[: rows * scale, : columns * scale]
    if scale > 2:
        values = cv2.resize(values, (2 * columns, 2 * rows), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA))


def quantile(values: NDArray[Any], share: float) -> float:
    """Return the value that *share* of the values, 0…1, one at least, lie below: one of them, none between."""
    place = round(share * (values.size - 1))
    return float(np.partition(values, place, axis=None)[place])
