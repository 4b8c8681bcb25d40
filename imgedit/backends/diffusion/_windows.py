"""Overlapping windows over latents that are too large for one pass, and what each of them counts where several meet.

As in MultiDiffusion (Bar-Tal et al. 2023, eq. 5) what is predicted in the windows is averaged at each step, so that all
of them draw one picture. Weights fall towards the edges of a window, where it sees least around: no line can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def along(size: int, length: int, shared: int, step: int) -> Axis:
    """Return windows over *size* cells, neighbours of which share *shared* cells or more.

    *size* and *length* are multiples of *step*, and so are the places where windows begin: what a network with levels
    of half the size makes of a cell depends on where it lies between those. *shared*: 0 to less than *length*.
    """
    length = min(length, size)
    if size == length:
        return Axis(length, (0,), np.ones((1, length), np.float32))
    stride = max(step, (length - shared) // step * step)
    starts = (*range(0, size - length, stride), size - length)
    total = np.zeros(size)
    raw = []
    for start in starts:
        weight = np.ones(length)
        if shared:
            ramp = (np.arange(length) + 0.5) / shared
            if start > 0:
                weight = np.minimum(weight, ramp)
            if start < size - length:
                weight = np.minimum(weight, ramp[::-1])
        raw.append(weight)
        total[start : start + length] += weight
    shares = [weight / total[start : start + length] for start, weight in zip(starts, raw)]
    return Axis(length, starts, np.array(shares, np.float32))


def parts(down: Axis, across: Axis, at_once: int) -> list[list[tuple[slice, slice, Any]]]:
    """Return all windows as (rows, columns, weights), *at_once* in a list at most; weights: (length, length)."""
    boxes = [
        (slice(top, top + down.length), slice(left, left + across.length), np.outer(high, wide))
        for top, high in zip(down.starts, down.weights)
        for left, wide in zip(across.starts, across.weights)
    ]
    return [boxes[first : first + at_once] for first in range(0, len(boxes), at_once)]
