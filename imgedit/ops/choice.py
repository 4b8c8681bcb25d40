"""What the choice of a fill goes by: how rough the ground round a hole is, whether a plane, and how deep the hole."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.depth import LEVEL, to8
from imgedit.ops.fill import MOST_SAMPLES, plane_terms, robust
from imgedit.ops.lively import beside

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: pixels round a hole that are looked at, and those next to it that are not: they may be antialiased
RING, CLEAR = 12, 2
#: noise is what a Gaussian of this standard deviation takes away, pixels
NOISE = 3.0
#: of a plane with noise: how far pixels are from it, against that noise; below, the ground has spots or lines
RESIDUAL = (0.95, 1.6)
#: share of the ring that is within so many times that distance, and never counts as farther than LEAST levels: between
#: bricks and mortar .85 to .88 are, and a plane there was 5 dB worse than the network
INLIERS, WITHIN, LEAST = 0.9, 4.0, 0.7
#: farther from the plane, in levels, is texture
NOISIEST = 6.0


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


def shaded(pixels: Pixels, piece: Plane, mask: Plane) -> bool:
    """Return whether the ground round *piece* is one plane with noise, but for a few pixels that do not belong to it.

    *pixels*: (rows, columns, 3) uint8 or uint16; *piece*, *mask*: (rows, columns) uint8, the hole and all that is
    unknown. Distances are medians over the ring, of the root mean square over channels.
    """
    x, y, width, height = cv2.boundingRect(piece)
    room = RING + round(3 * NOISE)
    box = (slice(max(y - room, 0), y + height + room), slice(max(x - room, 0), x + width + room))
    hole, known = piece[box] > 0, (mask[box] == 0).astype(np.float32)
    rows, columns = np.nonzero(beside(hole, RING, CLEAR) & (known > 0))
    step = len(rows) // MOST_SAMPLES + 1
    rows, columns = rows[::step], columns[::step]
    if len(rows) < RING * RING:
        return False
    levels = pixels[box].astype(np.float32) / np.float32(1 if pixels.dtype == np.uint8 else LEVEL)
    places = plane_terms(rows, columns, (rows.mean(), columns.mean()), max(hole.shape))
    values = levels[rows, columns].astype(np.float64)
    fits = np.stack([robust(places, values[:, c], 0.5) for c in range(3)], axis=1)
    off = _distance(values - places @ fits)
    coarse = cv2.GaussianBlur(levels * known[..., None], (0, 0), NOISE)
    coarse /= np.maximum(cv2.GaussianBlur(known, (0, 0), NOISE), 1e-3)[..., None]
    noise = float(np.median(_distance((levels - coarse)[rows, columns])))
    middle = float(np.median(off))
    if middle > NOISIEST or not RESIDUAL[0] * noise <= middle <= RESIDUAL[1] * noise:
        return False
    return float((off < WITHIN * max(middle, LEAST)).mean()) >= INLIERS


def _distance(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.sqrt(np.square(values).mean(axis=1)))


def pieces(mask: Plane) -> list[Plane]:
    """Return the connected pieces of the hole, *mask* > 0, each as 255 in a picture of its own."""
    count, labels = cv2.connectedComponents((mask > 0).view(np.uint8), connectivity=8)
    return [(labels == number).view(np.uint8) * np.uint8(255) for number in range(1, count)]


def deeper(mask: Plane, depth: float) -> Plane:
    """Return those connected pieces of the hole, *mask* > 0, as 255, that are deeper than *depth* pixels somewhere."""
    hole = (mask > 0).view(np.uint8)
    deep = cv2.distanceTransform(hole, cv2.DIST_L2, 3) > depth
    if not deep.any():
        return np.zeros_like(mask)
    _, labels = cv2.connectedComponents(hole, connectivity=8)
    return np.isin(labels, np.unique(labels[deep])).astype(np.uint8) * np.uint8(255)
