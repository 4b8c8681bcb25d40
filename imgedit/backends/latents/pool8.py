"""Latent statistics without a model: what each cell of 8×8 pixels shows, in four numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgedit.frame import LatentStats
from imgedit.ops.pool import cell_counts, cell_sums

if TYPE_CHECKING:
    from imgedit.frame import Pixels

GRID = 8
#: rows taken at once: bounds the memory for squares; a multiple of GRID
_BAND = 32 * GRID
#: rows whose latents are held at once, a multiple of _BAND
_STATS = 4 * _BAND
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
        for top in range(0, pixels.shape[0], _STATS):
            part = self.latents(pixels[top : top + _STATS]).reshape(4, -1)
            # mean and squared deviations of two parts together (Chan, Golub and LeVeque 1979): memory stays flat
            both, away = count + part.shape[1], part.mean(axis=1) - mean
            squares += part.var(axis=1) * part.shape[1] + away**2 * (count * part.shape[1] / both)
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
        full = 255 if pixels.dtype.itemsize == 1 else 65535
        sums, squares = [], []
        for top in range(0, rows, _BAND):
            band = np.ascontiguousarray(pixels[top : top + _BAND])
            green = band[..., 1:2]
            sums.append(cell_sums(band, GRID))
            squares.append(cell_sums(np.multiply(green, green, dtype=f"u{2 * band.itemsize}"), GRID))
        count = cell_counts(rows, columns, GRID)
        means = np.moveaxis(np.concatenate(sums), 2, 0) / (count * full)
        red, green, blue = means
        # n·Σg² − (Σg)² in integers: a flat cell has activity exactly 0
        total = np.concatenate(sums)[..., 1]
        spread = count.astype(np.uint64) * np.concatenate(squares)[..., 0] - total * total
        luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
        return np.stack(
            (
                2 * luma - 1,
                (blue - luma) / (1 - _LUMA[2]),
                (red - luma) / (1 - _LUMA[0]),
                2 * np.sqrt(spread) / (count * full),
            )
        )
