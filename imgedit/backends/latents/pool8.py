"""Latent statistics without a model: what each cell of 8×8 pixels shows, in four numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.frame import LatentStats
from imgedit.ops.pool import cell_counts, cell_sums

if TYPE_CHECKING:
    from imgedit.frame import Pixels

GRID = 8
#: bytes of a picture that are taken at once, in whole rows of cells
_BAND = 1 << 20
#: rows of cells whose latents are held at once, and cells: fewer rows where these are long
_STATS, _CELLS = 128, 1 << 16
#: red, green, blue parts of luma, ITU-R BT.601
_LUMA = (0.299, 0.587, 0.114)


class Pool8:
    """Four channels per cell of 8×8 pixels, the grid of the common latent models.

    With R, G, B the means of the cell as shares of full scale and Y = 0.299 R + 0.587 G + 0.114 B:
    brightness 2Y − 1 (−1…1), blue against yellow (B − Y) / 0.886 (−1…1), red against cyan
    (R − Y) / 0.701 (−1…1), and activity, twice the standard deviation of G within the cell (0…1).
    Cells at the right and bottom edge average what they have. The sums are integers, so the result
    is the same on every machine.
    """

    summary: ClassVar[str] = "8×8 cells: brightness, two colour axes, activity; no model"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True

    def encode(self, pixels: Pixels) -> LatentStats:
        """Return mean and standard deviation of the four channels over all cells of (rows, columns, 3) *pixels*.

        Rounded to 6 decimals.
        """
        count, mean, squares = 0, np.zeros(4), np.zeros(4)
        step = max(1, min(_STATS, _CELLS * GRID // pixels.shape[1])) * GRID
        for top in range(0, pixels.shape[0], step):
            part = self.latents(pixels[top : top + step]).reshape(4, -1)
            # mean and squared deviations of two parts together (Chan, Golub and LeVeque 1979): memory stays flat
            both, away = count + part.shape[1], part.mean(axis=1) - mean
            spread = np.array([channel.var() for channel in part])
            squares += spread * part.shape[1] + away**2 * (count * part.shape[1] / both)
            mean += away * (part.shape[1] / both)
            count = both
        return LatentStats(
            encoder="pool8",
            grid=GRID,
            shape=(4, -(-pixels.shape[0] // GRID), -(-pixels.shape[1] // GRID)),
            mean=tuple(round(float(value), 6) + 0.0 for value in mean),
            std=tuple(round(float(value), 6) for value in np.sqrt(squares / count)),
        )

    def latents(self, pixels: Pixels) -> NDArray[np.float64]:
        """Return the latents (4, ceil(rows / 8), ceil(columns / 8)) of (rows, columns, 3) uint8 or uint16 *pixels*."""
        rows, columns, _ = pixels.shape
        latents = np.empty((4, -(-rows // GRID), -(-columns // GRID)))
        step = max(1, spill.rows_of(pixels, _BAND) // GRID) * GRID
        for top in range(0, rows, step):
            band = np.ascontiguousarray(spill.fetch(pixels[top : top + step]))
            cells = -(-len(band) // GRID)
            latents[:, top // GRID : top // GRID + cells] = _of_band(band)
        return latents


def _of_band(band: Pixels) -> NDArray[np.float64]:
    """Return the latents of some whole rows of cells."""
    full = 255 if band.dtype.itemsize == 1 else 65535
    total = cell_sums(band, GRID)
    green = band[..., 1:2]
    squares = cell_sums(np.multiply(green, green, dtype=f"u{2 * band.itemsize}"), GRID)[..., 0]
    count = cell_counts(band.shape[0], band.shape[1], GRID)
    red, green, blue = np.moveaxis(total, 2, 0) / (count * full)
    # n·Σg² − (Σg)² in integers: a flat cell has activity exactly 0
    spread = count.astype(np.uint64) * squares - total[..., 1] * total[..., 1]
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return np.stack(
        (
            2 * luma - 1,
            (blue - luma) / (1 - _LUMA[2]),
            (red - luma) / (1 - _LUMA[0]),
            2 * np.sqrt(spread) / (count * full),
        )
    )
