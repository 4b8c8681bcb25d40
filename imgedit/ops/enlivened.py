"""A smooth fill with the shapes and the detail of copied patches, as far as these prove right on known ground.

Both fills are tried on places beside the hole where it is known what is right, at half the scale: that is enough for
shapes, and a quarter of the work. In 28 photos the trial made the fills of squares of 64 and 128 pixels .2 dB better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.exemplar import copied, exemplar, way
from imgedit.ops.lively import lively, shares

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
#: pixels, and a mask above 0 where they are unknown → the same pixels filled there
Fill = Callable[[Pixels, Plane], Pixels]

#: context that the trial wants to see round a hole, pixels
CONTEXT = 160
#: places that the fills are tried on at most, and their side; what is between them, and from the hole; and from the
#: edge of what is seen: pixels
PLACES, SIDE, APART, EDGE = 4, 64, 24, 16
#: they lie on a grid of so many pixels
GRID = 8
#: the trial is at a scale of one to
TIMES = 2
#: so many times the error of one place speak for what the misfit says alone
PRIOR = 0.3
#: patches count at most so many times as much as their misfit says
MOST_TRUST = 1.6


class Enlivened(NamedTuple):
    """*pixels* with the fill; *tried*: on how many places; *trust*: how much patches counted there, 1 = as usual."""

    pixels: Pixels
    tried: int
    trust: float

    @property
    def why(self) -> str:
        """What the trial said, for the notes of the step."""
        if not self.tried:
            return "patches were not tried beside it"
        return f"patches count {self.trust:.1f} times, tried on {self.tried} places beside it"


def enlivened(fill: Fill, pixels: Pixels, mask: Plane, seed: int, part: Plane) -> Enlivened:
    """Return *pixels* filled by *fill* where *mask* > 0, with shapes and detail of `exemplar` where *part* > 0.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*, *part*: (rows, columns) uint8, *part* some of the hole. How
    much is taken of the shapes goes by how well patches match what they overlap, and by how much closer they came to
    the truth than *fill* on places beside *part*, at most `CONTEXT` pixels away. Elsewhere nothing changes.
    """
    smooth = fill(pixels, mask)
    kind = way(mask)
    if kind not in ("scales", "reduced"):
        return Enlivened(lively(smooth, exemplar(pixels, mask, seed), part), 0, 1.0)
    # what is copied at a reduced scale is not what a place of this size would show
    tried, trust = _tried(fill, smooth, mask, seed, part) if kind == "scales" else (0, 1.0)
    other, misfit = copied(pixels, mask, seed)
    return Enlivened(lively(smooth, other, part, misfit=misfit, trust=trust), tried, trust)


def _tried(fill: Fill, smooth: Pixels, mask: Plane, seed: int, part: Plane) -> tuple[int, float]:
    """Return on how many places both fills were tried, and the factor for the share of patches that was best there.

    *smooth*: the picture with its hole filled; nothing is copied from there. The factor is that of least squares, where
    each place counts by one over its error.
    """
    x, y, width, height = cv2.boundingRect(part)
    rows, columns = (
        slice(max(first - CONTEXT, 0) // TIMES * TIMES, min(first + size + CONTEXT, length) // TIMES * TIMES)
        for first, size, length in ((y, height, mask.shape[0]), (x, width, mask.shape[1]))
    )
    unknown = np.ascontiguousarray(mask[rows, columns])
    corners = _places(unknown, (y - rows.start, x - columns.start, height, width))
    if not corners:
        return 0, 1.0
    size = (unknown.shape[1] // TIMES, unknown.shape[0] // TIMES)
    truth = np.asarray(cv2.resize(smooth[rows, columns], size, interpolation=cv2.INTER_AREA))
    banned = cv2.resize((unknown > 0).view(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    boxes = [tuple(slice(first // TIMES, (first + SIDE) // TIMES) for first in corner) for corner in corners]
    tests = np.zeros(size[::-1], np.uint8)
    for box in boxes:
        tests[box] = 255
    unit = np.float32(np.iinfo(smooth.dtype).max / 255)
    first, right = fill(truth, tests).astype(np.float32) / unit, truth.astype(np.float32) / unit
    other, misfit = copied(truth, tests, seed, np.asarray(banned, np.uint8))
    away = other.astype(np.float32) / unit - first
    moved = shares(misfit, away, tests > 0, TIMES)[..., None] * away
    along, long = PRIOR, PRIOR
    for box in boxes:
        to, by = (right - first)[box], moved[box]
        error = float(np.square(to - by).mean()) + 1
        along += float((to * by).mean()) / error
        long += float(np.square(by).mean()) / error
    return len(boxes), float(np.clip(along / long, 0, MOST_TRUST))


def _places(unknown: Plane, hole: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Return top and left of the places to try fills on: known, apart from each other, nearest to *hole* first.

    *hole*: top, left, rows, columns of its box.
    """
    rows, columns = unknown.shape
    apart = np.ones((2 * APART + 1, 2 * APART + 1), np.uint8)
    free = cv2.dilate((unknown > 0).view(np.uint8), apart) == 0
    tops = np.arange(EDGE, rows - SIDE - EDGE + 1, GRID)
    lefts = np.arange(EDGE, columns - SIDE - EDGE + 1, GRID)
    gaps, offs = [], []
    for starts, first, size in ((tops, hole[0], hole[2]), (lefts, hole[1], hole[3])):
        gaps.append(np.maximum(np.maximum(first - starts - SIDE, starts - first - size), 0))
        offs.append(np.abs(starts + SIDE / 2 - first - size / 2))
    near = np.maximum(gaps[0][:, None], gaps[1]) // GRID
    # of those that are as near, those beside the middle of an edge
    order = near * float(rows + columns) + offs[0][:, None] + offs[1]
    found: list[tuple[int, int]] = []
    while len(found) < PLACES and order.size:
        taken = cv2.boxFilter((~free).astype(np.float32), -1, (SIDE, SIDE), anchor=(0, 0), normalize=False)
        cost = np.where(taken[np.ix_(tops, lefts)] > 0.5, np.inf, order)
        row, column = np.unravel_index(int(cost.argmin()), cost.shape)
        if cost[row, column] == np.inf:
            break
        top, left = int(tops[row]), int(lefts[column])
        found.append((top, left))
        free[max(top - APART, 0) : top + SIDE + APART, max(left - APART, 0) : left + SIDE + APART] = False
    return found
