"""The mask in the latent grid: no stroke vanishes, whatever its width and alignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgedit.ops.cells import lost, to_cells

GRID = 8


def naive(mask: np.ndarray, grid: int, dilate: int) -> np.ndarray:
    """Return the cells by plain loops over pixels and neighbours."""
    rows, columns = -(-mask.shape[0] // grid), -(-mask.shape[1] // grid)
    touched = np.zeros((rows, columns), bool)
    for y, x in np.argwhere(mask > 0):
        touched[y // grid, x // grid] = True
    grown = np.zeros_like(touched)
    for y, x in np.argwhere(touched):
        grown[max(y - dilate, 0) : y + dilate + 1, max(x - dilate, 0) : x + dilate + 1] = True
    return grown.astype(np.uint8) * 255


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("down", range(GRID))
@pytest.mark.parametrize("across", range(GRID))
def test_strokes_of_all_alignments_stay(width: int, down: int, across: int) -> None:
    base = np.zeros((64, 72), np.uint8)
    level, upright, slanted = base.copy(), base.copy(), base.copy()
    level[16 + down : 16 + down + width, 16 + across : 16 + across + 20] = 255
    upright[16 + down : 16 + down + 20, 16 + across : 16 + across + width] = 255
    for i in range(24):
        slanted[16 + down + i, 16 + across + i // 2 : 16 + across + i // 2 + width] = 1
    for mask in (level, upright, slanted):
        cells = to_cells(mask, GRID)
        covered = cells.repeat(GRID, axis=0).repeat(GRID, axis=1)
        assert (covered[mask > 0] == 255).all()
        assert lost(mask, cells, GRID, GRID) == 0
        # and no cell without a masked pixel is masked
        assert np.array_equal(cells, naive(mask, GRID, 0))
        # an adjacent pair of stroke pixels lies in touching cells: the stroke stays one piece
        rows, columns = np.nonzero(cells)
        assert np.ptp(rows) <= -(-24 // GRID) and np.ptp(columns) <= -(-24 // GRID)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 50), st.integers(1, 17), st.integers(0, 3))
def test_cells_are_a_naive_maximum(seed: int, rows: int, columns: int, grid: int, dilate: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 256, (rows, columns), np.uint8)
    mask = np.where(rng.random((rows, columns)) < rng.choice([0, 0.01, 0.1, 0.7]), values, np.uint8(0))
    cells = to_cells(mask, grid, dilate)
    assert cells.dtype == np.uint8 and set(np.unique(cells)) <= {0, 255}
    assert np.array_equal(cells, naive(mask, grid, dilate))
    assert lost(mask, cells, grid, grid) == 0


def test_what_is_lost_is_counted() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[3, 3:11] = 255
    cells = to_cells(mask, 8)
    cells[0, 1] = 0
    assert lost(mask, cells, 8, 8) == 3
    # a nearest-neighbour reduction, as it is often done, loses the whole stroke
    assert lost(mask, mask[4::8, 4::8], 8, 8) == 8
