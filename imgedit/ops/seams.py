"""Whether lines along which tiles meet can be seen: steps across them held against steps beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: pixels along a line over which steps are averaged: a seam has one sign over that far, texture has not
SEGMENT = 16
#: lines this far from a seam, on both sides, say what the picture has of its own
_BESIDE = tuple(range(4, 12))
#: lines that score more can be seen
SEEN = 1.5
#: steps below this are of no account, as a share of full scale: rounding to 8 bits makes some
_LEVEL = 0.25 / 255


def score(picture: NDArray[Any], rows: Sequence[int], columns: Sequence[int]) -> float:
    """Return how much larger the steps across lines are than those beside them: 1 where no line can be seen.

    *picture*: (rows, columns, channels) uint8 or uint16; *rows*, *columns*: the lines run before these. A step is what
    the difference of two pixels exceeds that of the pairs before and behind by; it is averaged over SEGMENT pixels of
    the line with its sign, and then its size over all segments. 1 where there are no lines, or no room beside them.
    """
    at = _steps(picture, rows, 0) + _steps(picture, columns, 1)
    beside = [
        step
        for away in _BESIDE
        for side in (-away, away)
        for step in _steps(picture, [line + side for line in rows], 0)
        + _steps(picture, [line + side for line in columns], 1)
    ]
    if not at or not beside:
        return 1.0
    return float((np.mean(np.concatenate(at)) + _LEVEL) / (np.mean(np.concatenate(beside)) + _LEVEL))


def _steps(picture: NDArray[Any], lines: Sequence[int], axis: int) -> list[NDArray[np.float64]]:
    """Return for each line the sizes of the steps across it, averaged along it, as shares of full scale."""
    found = []
    full = 255 if picture.dtype.itemsize == 1 else 65535
    for line in lines:
        if line < 2 or line > picture.shape[axis] - 2:
            continue
        near = picture[line - 2 : line + 2] if axis == 0 else picture[:, line - 2 : line + 2].swapaxes(0, 1)
        a, b, c, d = near.astype(np.float64).mean(axis=2)
        step = (c - b) - ((b - a) + (d - c)) / 2
        length = min(SEGMENT, len(step))
        segments = step[: len(step) // length * length].reshape(-1, length)
        found.append(np.abs(segments.mean(axis=1)) / full)
    return found
