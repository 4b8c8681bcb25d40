"""Gradient statistics: lost or added texture, blocks on a grid of eight, halo and seam round a mask. All on luma."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import bands, each, scratch
from imgedit.ops.structure import luma

Plane = NDArray[np.uint8]
Planes = NDArray[Any]
Regions = Mapping[str, Plane | None]

#: lines of the block grid that blockiness looks for: JPEG's, and that of the usual latents
GRID = 8

#: one level of 8 bits: gradients below it say nothing, and it keeps ratios finite
_LEVEL = 1 / 255
_BINS = 2048
_WIDTH = 1.4143 / _BINS  # the largest gradient is sqrt(2)
_BAND = 1 << 17
#: steps at each phase of the grid that blockiness needs
_FEWEST = 64
#: halo: the local mean reaches this many pixels to each side
_REACH = 16


@dataclass(slots=True)
class Gradients:
    """Sums over one region. *energy*: of squared gradients; *histogram*: of their magnitudes, 2048 steps up to sqrt(2);
    *steps*, *counts*: absolute steps and their number by direction (across, down) and phase in the grid of eight."""

    pixels: int = 0
    energy: float = 0.0
    histogram: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    steps: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, GRID)))
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, GRID)))

    def add(self, other: Gradients) -> None:
        self.pixels += other.pixels
        self.energy += other.energy
        self.histogram += other.histogram
        self.steps += other.steps
        self.counts += other.counts


def gradients(picture: Planes, regions: Regions) -> dict[str, Gradients]:
    """Sum up the forward differences of luma in each of *regions* that has any.

    *picture*: (rows, columns, 3) uint8 or uint16, at least 2×2. A gradient belongs to its upper left pixel.
    """
    rows, columns = picture.shape[0] - 1, picture.shape[1] - 1

    def band(part: slice) -> dict[str, Gradients]:
        grey = luma(picture[part.start : part.stop + 1])
        across, down, magnitude = scratch("gradients", 3, grey[1:, 1:].size).reshape(3, part.stop - part.start, columns)
        np.abs(np.subtract(grey[:-1, 1:], grey[:-1, :-1], out=across), out=across)
        np.abs(np.subtract(grey[1:, :-1], grey[:-1, :-1], out=down), out=down)
        np.multiply(across, across, out=magnitude)
        magnitude += down * down
        found = {}
        for name, region in regions.items():
            inside = None if region is None else np.ascontiguousarray(region[part, :columns])
            if inside is None or cv2.countNonZero(inside):
                found[name] = _sums(across, down, magnitude, inside, part.start)
        return found

    total: dict[str, Gradients] = {}
    for found in each(band, bands(rows, columns, _BAND)):
        for name, part in found.items():
            total.setdefault(name, Gradients()).add(part)
    return total


def _sums(across: Any, down: Any, squares: Any, inside: Plane | None, start: int) -> Gradients:
    count = squares.size if inside is None else cv2.countNonZero(inside)
    magnitude = cv2.sqrt(squares)
    histogram = cv2.calcHist([magnitude], [0], inside, [_BINS], [0, _WIDTH * _BINS])
    sums = Gradients(count, cv2.mean(squares, inside)[0] * count, histogram.ravel().astype(np.float64))
    weights = None if inside is None else (inside > 0).astype(np.float32)
    for direction, steps in enumerate((across, down)):
        # a step across lies between two columns, so its phase is that of the column; a step down, of the row
        weighted = steps if weights is None else steps * weights
        lines = cv2.reduce(weighted, direction, cv2.REDUCE_SUM, dtype=cv2.CV_64F).ravel()
        if weights is None:
            numbers = np.full(lines.size, steps.size // lines.size, np.float64)
        else:
            numbers = cv2.reduce(weights, direction, cv2.REDUCE_SUM, dtype=cv2.CV_64F).ravel()
        phase = (np.arange(lines.size) + (start if direction else 0)) % GRID
        sums.steps[direction] = np.bincount(phase, lines, GRID)
        sums.counts[direction] = np.bincount(phase, numbers, GRID)
    return sums


def energy_ratio(picture: Gradients, reference: Gradients) -> float:
    """Return mean squared gradient of *picture* over that of *reference*: below 1 texture was lost, above 1 added.

    One level squared is added to both, so that two flat pictures give 1 and nothing gives infinity.
    """
    floor = _LEVEL**2
    return (picture.energy / picture.pixels + floor) / (reference.energy / reference.pixels + floor)


def distance(picture: Gradients, reference: Gradients) -> float:
    """Return how far the gradient magnitudes of both are apart, 0 (equally distributed) to 1 (one of them is flat).

    The earth mover's distance of the two histograms, divided by the sum of their means and one level.
    """
    first, second = picture.histogram / picture.pixels, reference.histogram / reference.pixels
    moved = float(np.abs(np.cumsum(first - second)).sum()) * _WIDTH
    middles = (np.arange(_BINS) + 0.5) * _WIDTH
    return moved / (float((first + second) @ middles) + _LEVEL)


def blockiness(picture: Gradients, reference: Gradients) -> float | None:
    """Return how much more the steps of *picture* gather on one line in eight than those of *reference* do.

    For each direction and phase of the grid: the mean step there over the mean step elsewhere; the largest excess over
    the reference at the same place. 0: no more than there; 1: steps there are twice what they should be. None where
    the region is too small to tell: fewer than 64 steps at some phase.
    """
    if picture.counts.min() < _FEWEST:
        return None
    return max(0.0, float((_gathered(picture) - _gathered(reference)).max()))


def _gathered(found: Gradients) -> NDArray[np.float64]:
    steps, counts = found.steps.sum(axis=1, keepdims=True), found.counts.sum(axis=1, keepdims=True)
    elsewhere = (steps - found.steps) / (counts - found.counts)
    gathered: NDArray[np.float64] = (found.steps / found.counts + _LEVEL) / (elsewhere + _LEVEL)
    return gathered


def halo(picture: Planes, reference: Planes, mask: Plane, ring: Plane) -> tuple[float, float] | None:
    """Return the mean size of the step in luma across the edge of *mask* that *reference* lacks, and its signed mean.

    With d = luma of *picture* - luma of *reference*: at each pixel of *ring* the mean of d over the ring's pixels
    inside the mask, less the mean over those outside it, both within a window of 33×33 pixels round it. The first
    number is the mean of its size, so that a bright and a dark halo do not cancel, the second the mean with its sign:
    positive where the repaired side is too bright. Shares of full scale. None where the mask has no edge.
    """
    return _step_across(lambda crop: luma(picture[crop]) - luma(reference[crop]), mask, ring)


def seam(picture: Planes, mask: Plane, reach: int) -> tuple[float, float] | None:
    """Return how much larger the step in luma across the edge of *mask* is than beside it, and the same with its sign.

    The step is that of :func:`halo` with d = luma of *picture* alone, and a ring of *reach* pixels on each side. From
    its mean size that across a line twice *reach* further out is taken, where nothing was changed: that much is the
    picture's own. The first number is 0 where the edge does not show and negative where it is smoother than what is
    beside it. Shares of full scale. None where the mask has no edge, or no room beside it.
    """
    wide = np.asarray(cv2.dilate(mask, _square(2 * reach)), np.uint8)
    steps = [
        _step_across(lambda crop: luma(picture[crop]), inside, edge_ring(inside, reach)) for inside in (mask, wide)
    ]
    if steps[0] is None or steps[1] is None:
        return None
    return steps[0][0] - steps[1][0], steps[0][1] - steps[1][1]


def _square(reach: int) -> Plane:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def edge_ring(inside: Plane, reach: int) -> Plane:
    """Return 255 within *reach* pixels of the edge of *inside*, on both sides; squares are quick to grow by."""
    return np.asarray(cv2.subtract(cv2.dilate(inside, _square(reach)), cv2.erode(inside, _square(reach))), np.uint8)


def _step_across(values: Callable[[tuple[slice, slice]], Any], mask: Plane, ring: Plane) -> tuple[float, float] | None:
    """Return mean size and signed mean of the local step of *values* (of a crop) across the edge of *mask*."""
    rows, columns = ring.shape

    def band(part: slice) -> NDArray[np.float64]:
        sums = np.zeros(3)
        x, _, width, _ = cv2.boundingRect(ring[part])
        if width:
            around = slice(max(0, part.start - _REACH), min(rows, part.stop + _REACH))
            across = slice(max(0, x - _REACH), min(columns, x + width + _REACH))
            crop = (around, across)
            step, valid = _steps(values(crop), ring[crop] > 0, mask[crop] > 0)
            kept = slice(part.start - around.start, part.stop - around.start)
            chosen = step[kept][valid[kept]]
            sums += chosen.size, np.abs(chosen).sum(dtype=np.float64), chosen.sum(dtype=np.float64)
        return sums

    count, size, signed = sum(each(band, bands(rows, columns, _BAND)), np.zeros(3))
    return (float(size / count), float(signed / count)) if count else None


def _steps(
    error: Any, ring: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return at each pixel the mean error inside less that outside, and where it is known."""
    (near, count), (far, far_count) = _local_mean(error, ring & inside), _local_mean(error, ring & ~inside)
    step: NDArray[np.float32] = near - far
    return step, ring & (count > 0) & (far_count > 0)


def _local_mean(values: Any, where: NDArray[np.bool_]) -> tuple[Any, Any]:
    """Return the mean of *values* over the pixels *where* within the window, and their number."""
    window = (2 * _REACH + 1, 2 * _REACH + 1)
    weights = where.astype(np.float32)
    count = cv2.boxFilter(weights, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
    total = cv2.boxFilter(values * weights, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return total / np.maximum(count, 1), count
