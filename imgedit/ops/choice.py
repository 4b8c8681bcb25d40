"""What the choice of a fill goes by: how rough the ground round a hole is, and how deep the hole."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.depth import to8
from imgedit.ops.lively import beside

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

#: pixels round a hole that are looked at, and those next to it that are not: they may be antialiased
RING, CLEAR = 12, 2


def roughness(pixels: Pixels, mask: Plane) -> float:
    """Return the root mean square of the luma's gradient round the hole, in levels of 0…255 per pixel.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8, hole = above 0. What the hole held
    does not matter. 0 where nothing is known round it.
    """
    x, y, width, height = cv2.boundingRect(mask)
    room = RING + 1
    box = (slice(max(y - room, 0), y + height + room), slice(max(x - room, 0), x + width + room))
    hole = (mask[box] > 0).view(np.uint8)
    ring = beside(hole > 0, RING, CLEAR)
    if not ring.any() or min(hole.shape) < 2:
        return 0.0
    luma = cv2.cvtColor(to8(pixels[box]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    down, right = np.gradient(luma)
    return float(np.sqrt((np.square(down) + np.square(right))[ring].mean()))


def deeper(mask: Plane, depth: float) -> Plane:
    """Return those connected pieces of the hole, *mask* > 0, as 255, that are deeper than *depth* pixels somewhere."""
    hole = (mask > 0).view(np.uint8)
    deep = cv2.distanceTransform(hole, cv2.DIST_L2, 3) > depth
    if not deep.any():
        return np.zeros_like(mask)
    _, labels = cv2.connectedComponents(hole, connectivity=8)
    return np.isin(labels, np.unique(labels[deep])).astype(np.uint8) * np.uint8(255)
