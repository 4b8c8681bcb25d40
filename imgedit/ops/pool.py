"""Sums over square cells of a picture: exact, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cell_sums(array: NDArray[Any], cell: int) -> NDArray[np.uint64]:
    """Return the sums of unsigned *array* (rows, columns, channels) over cells of *cell* × *cell* pixels.

    The result is (ceil(rows / cell), ceil(columns / cell), channels) uint64; cells at the right and
    bottom edge hold what is there.
    """
    rows, columns, channels = array.shape
    # the narrowest type that holds a column of one cell: additions of small integers are the fastest
    narrow = np.min_scalar_type(int(np.iinfo(array.dtype).max) * cell)
    lines = np.zeros((-(-rows // cell), columns * channels), narrow)
    whole = rows // cell
    flat = array.reshape(rows, columns * channels)
    np.add.reduce(
        flat[: whole * cell].reshape(whole, cell, columns * channels), axis=1, dtype=narrow, out=lines[:whole]
    )
    if whole < len(lines):
        np.add.reduce(flat[whole * cell :], axis=0, dtype=narrow, out=lines[whole])
    starts = np.arange(0, columns, cell)
    return np.add.reduceat(lines.reshape(-1, columns, channels), starts, axis=1, dtype=np.uint64)


def cell_counts(rows: int, columns: int, cell: int) -> NDArray[np.int64]:
    """Return how many pixels each cell of *cell* × *cell* holds: (ceil(rows / cell), ceil(columns / cell))."""
    height = np.minimum(cell, rows - np.arange(0, rows, cell))
    width = np.minimum(cell, columns - np.arange(0, columns, cell))
    return np.outer(height, width)
