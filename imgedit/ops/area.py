"""Reduce a large picture that comes in parts: each pixel becomes the mean over its ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: values that are summed up at a time
_BAND = 1 << 20


class Area:
    """Takes the parts of a (channels, *size*) picture; gives rows of the (channels, *result*) one when they are full.

    *size*, *result*: (rows, columns). Each pixel of the result is the mean over its ground, which parts of pixels
    belong to where the ratio is not whole. Parts come in rows of parts, each from left to right.
    """

    def __init__(self, channels: int, size: tuple[int, int], result: tuple[int, int]) -> None:
        self._size, self._result = size, result
        self._first = 0  # the row of the result that the sums begin with
        self._sums = np.zeros((channels, 0, result[1]), np.float32)

    def add(self, top: int, left: int, values: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
        """Take the part *values* (channels, rows, columns) from *top*, *left* on.

        Returns the first of the rows of the result that are full now, and these rows: none until a row of parts ends.
        """
        height, width = values.shape[1:]
        ratio = self._size[0] / self._result[0]
        start, across = _summed(values, 2, left, self._size[1], self._result[1])
        upper, summed = _summed(across, 1, top, self._size[0], self._result[0])
        missing = upper + summed.shape[1] - self._first - self._sums.shape[1]
        if missing > 0:
            self._sums = np.pad(self._sums, [(0, 0), (0, missing), (0, 0)])
        here = slice(upper - self._first, upper - self._first + summed.shape[1])
        self._sums[:, here, start : start + summed.shape[2]] += summed
        if left + width < self._size[1]:
            return self._first, self._sums[:, :0]
        bottom = top + height
        full = self._result[0] if bottom == self._size[0] else int(bottom / ratio + 1e-9)
        first, count = self._first, full - self._first
        rows = self._sums[:, :count] * np.float32(1 / (ratio * self._size[1] / self._result[1]))
        self._sums, self._first = self._sums[:, count:].copy(), full
        return first, rows


def _summed(
    values: NDArray[np.float32], axis: int, offset: int, size: int, result: int
) -> tuple[int, NDArray[np.float32]]:
    """Return the first of *result* pixels that *values*, from *offset* on of *size*, lie in, and the sums over each."""
    count = values.shape[axis]
    first, last = offset * result // size, -(-(offset + count) * result // size)
    edges = np.clip(np.arange(first, last + 1) * (size / result) - offset, 0, count)
    whole = np.minimum(edges.astype(np.int64), count - 1)
    share = edges - whole
    shape = [1, 1, 1]
    shape[axis] = -1
    parts = []
    lines = 3 - axis  # the other axis in the plane
    step = max(1, _BAND // count)
    for at in range(0, values.shape[lines], step):
        part = values.take(range(at, min(at + step, values.shape[lines])), axis=lines)
        until = np.cumsum(part, axis=axis, dtype=np.float64)
        until -= part
        until = until.take(whole, axis=axis) + part.take(whole, axis=axis) * share.reshape(shape)
        parts.append(np.diff(until, axis=axis).astype(np.float32))
    return first, np.concatenate(parts, axis=lines)
