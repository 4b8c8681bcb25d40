"""Overlapping windows over latents that are too large for one pass, and what each of them counts where several meet.

As in MultiDiffusion (Bar-Tal et al. 2023, eq. 5) what is predicted in the windows is averaged at each step, so that all
of them draw one picture. Weights fall towards the edges of a window, where it sees least around: no line can be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: more windows along a side are not looked at where the best number is sought
_MOST_COUNT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Windows of *length* cells from each of *starts* on; their (windows, length) *weights* are 1 together anywhere."""

    length: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @property
    def lines(self) -> list[int]:
        """The cells before which the weights of two neighbours change places: in the middle of what they share."""
        return [(start + before + self.length) // 2 for before, start in zip(self.starts, self.starts[1:])]


def along(size: int, most: int, shared: int, step: int) -> Axis:
    """Return as few windows over *size* cells as can be, evenly laid, neighbours of which share *shared* cells or more.

    *size* and *most*, their length at most, are multiples of *step*, and so are the places where windows begin: what a
    network with levels of half the size makes of a cell depends on where it lies between those. *shared*: 0 or more,
    and less than *most*; it is rounded up to a multiple of *step* where that leaves a stride of one.
    """
    if size <= most:
        return Axis(size, (0,), np.ones((1, size), np.float32))
    kept = min(-(-shared // step) * step, most - step)
    count = -(-(size - kept) // (most - kept))
    # no longer than it takes: what windows have in common is computed twice
    length = -(-(size + (count - 1) * kept) // (count * step)) * step
    starts = tuple(number * (size - length) // ((count - 1) * step) * step for number in range(count))
    total = np.zeros(size)
    raw = []
    for number, start in enumerate(starts):
        weight = np.ones(length)
        if number:
            weight = np.minimum(weight, _ramp(length, starts[number - 1] + length - start))
        if number + 1 < count:
            weight = np.minimum(weight, _ramp(length, start + length - starts[number + 1])[::-1])
        raw.append(weight)
        total[start : start + length] += weight
    shares = [weight / total[start : start + length] for start, weight in zip(starts, raw)]
    return Axis(length, starts, np.array(shares, np.float32))


def fewest(
    sides: tuple[int, int], fits: Callable[[int, int], bool], shared: int, step: int, start: tuple[int, int]
) -> tuple[int, int]:
    """Return the lengths of windows over *sides* cells that compute the fewest cells in all, of those that fit.

    *fits*: of (rows, columns) of a window; *shared*, *step*: as in :func:`along`; *start*: what is taken where none is
    better. Of equals, the fewest windows, and those that are nearest to squares.
    """
    kept = -(-shared // step) * step

    def lengths(side: int) -> list[int]:
        found = [-(-(side + (count - 1) * kept) // (count * step)) * step for count in range(1, _MOST_COUNT + 1)]
        return [length for length in dict.fromkeys(found) if length > kept or length >= side]

    def cells(window: tuple[int, int]) -> tuple[int, int, int]:
        down, across = (along(side, length, shared, step) for side, length in zip(sides, window))
        count = len(down.starts) * len(across.starts)
        return count * down.length * across.length, count, max(window)

    candidates = [(down, across) for down in lengths(sides[0]) for across in lengths(sides[1])]
    return min([start, *(window for window in candidates if fits(*window))], key=cells)


def _ramp(length: int, shared: int) -> NDArray[np.float64]:
    """Return weights that rise over the first *shared* of *length* cells, to 1."""
    weights: NDArray[np.float64] = np.minimum((np.arange(length) + 0.5) / max(shared, 0.5), 1.0)
    return weights


def parts(down: Axis, across: Axis, at_once: int) -> list[list[tuple[slice, slice, Any]]]:
    """Return all windows as (rows, columns, weights), *at_once* in a list at most; weights: (length, length)."""
    boxes = [
        (slice(top, top + down.length), slice(left, left + across.length), np.outer(high, wide))
        for top, high in zip(down.starts, down.weights)
        for left, wide in zip(across.starts, across.weights)
    ]
    return [boxes[first : first + at_once] for first in range(0, len(boxes), at_once)]
