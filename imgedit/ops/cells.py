"""The mask in a model's latent grid: a cell is masked if any of its pixels is, so that no stroke is lost."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


def to_cells(mask: Plane, grid: int, dilate: int = 0) -> Plane:
    """Return *mask* (rows, columns) in cells of *grid* × *grid* pixels: 255 where any pixel is above 0, else 0.

    The result is (ceil(rows / grid), ceil(columns / grid)) uint8; cells start at the top left corner, and those at the
    right and bottom edge hold what is there. Then masked cells are grown by *dilate* cells in every direction,
    diagonals too. Reduction by maximum loses no stroke, however thin: sampling one pixel of a cell does.
    """
    rows, columns = mask.shape
    # the maximum in two passes, rows first, so that the long pass runs along memory
    cells = np.maximum.reduceat(mask, np.arange(0, rows, grid), axis=0)
    cells = np.maximum.reduceat(cells, np.arange(0, columns, grid), axis=1)
    cells = (cells > 0).view(np.uint8) * np.uint8(255)
    if dilate:
        side = 2 * dilate + 1
        cells = np.asarray(cv2.dilate(cells, np.ones((side, side), np.uint8)), np.uint8)
    return cells


def lost(mask: Plane, cells: Plane, tall: float, broad: float) -> int:
    """Return how many pixels of *mask* above 0 lie in a cell of *cells* that is not masked.

    *tall*, *broad*: rows and columns of the mask to a cell; broken where the mask was reduced for the model. Counted,
    pixel by pixel, and not concluded from how the cells were made.
    """
    count = 0
    across = np.minimum(((np.arange(mask.shape[1]) + 0.5) / broad).astype(np.int64), cells.shape[1] - 1)
    for row, line in enumerate(mask):
        down = min(int((row + 0.5) / tall), len(cells) - 1)
        count += int(np.count_nonzero((line > 0) & (cells[down, across] == 0)))
    return count
