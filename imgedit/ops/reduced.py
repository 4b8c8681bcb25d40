"""Work on a very large hole at a reduced scale, and bring the result up with copied detail.

What a reduced picture shows and what it lacks is told apart as in Burt, Adelson, "The Laplacian pyramid as a compact
image code" (1983): the fill gives the first, the place that each pixel was copied from gives the second.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.patches import Flags, Floats

Pixels = NDArray[Any]

LARGE = 400_000  # pixels of a hole, above which it is worked on at half the scale
WIDE = 1_000_000  # the same, of the box round it
BAND = 128  # rows worked on at once


def large(hole: Flags) -> bool:
    """Return whether *hole* is to be halved before its fill."""
    _, _, width, height = cv2.boundingRect(hole.view(np.uint8))
    return bool(width * height > WIDE or np.count_nonzero(hole) > LARGE)


def smaller(hole: Flags) -> Flags:
    """Return *hole* at half the size: where most of 2×2 pixels are in it."""
    rows, columns = hole.shape
    # a mean of four such values is exact in whole numbers
    fours = (~hole).view(np.uint8) * np.uint8(4)
    known = cv2.copyMakeBorder(fours, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
    size = ((columns + 1) // 2, (rows + 1) // 2)
    return np.asarray(cv2.resize(known, size, interpolation=cv2.INTER_AREA) < 2)


def half(levels: Floats, hole: Flags) -> tuple[Floats, Flags]:
    """Return both at half the size: means of the known pixels among 2×2; unknown where most of them are.

    *levels*: (rows, columns, 4) float32; the fourth value is not used, and 0 in the result.
    """
    rows, columns = hole.shape
    more = (0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
    known = levels.copy()
    known[..., 3] = ~hole
    known[hole] = 0
    size = ((columns + 1) // 2, (rows + 1) // 2)
    mean: Any = cv2.resize(cv2.copyMakeBorder(known, *more), size, interpolation=cv2.INTER_AREA)
    share = mean[..., 3:]
    mean = np.divide(mean, share, out=np.zeros_like(mean), where=share > 0)
    mean[..., 3] = 0
    return mean, share[..., 0] < 0.5


def levels_of(pixels: Pixels, hole: Flags) -> Floats:
    """Return (rows, columns, 4) float32 levels of 0…255: *pixels*, 0 in the *hole* and in the fourth value."""
    levels = np.zeros((*hole.shape, 4), np.float32)
    levels[..., :3] = pixels
    levels /= np.float32(1 if pixels.dtype.itemsize == 1 else 257)
    levels[hole] = 0
    return levels


def first(pixels: Pixels, hole: Flags) -> tuple[Floats, Flags, int]:
    """Return the levels and the hole at the largest scale that is worked on, and how many pixels one there spans."""
    if not large(hole):
        return levels_of(pixels, hole), hole, 1
    bands = [slice(top, top + 2 * BAND) for top in range(0, len(hole), 2 * BAND)]
    halves = [half(levels_of(pixels[band], hole[band]), hole[band]) for band in bands]
    levels, reduced = (np.concatenate(parts) for parts in zip(*halves))
    times = 2
    while large(reduced):
        levels, reduced = half(levels, reduced)
        times *= 2
    return levels, reduced, times


def brought_up(pixels: Pixels, hole: Flags, coarse: Floats, moves: NDArray[np.int32], times: int) -> Pixels:
    """Return *pixels* filled in *hole* from *coarse*, a *times* smaller fill, and the detail of where it came from.

    *coarse*: (rows / times, columns / times, 3) float32 levels; *moves*: (2, …) of the same size, how far down and
    right of each pixel its source lies. A source in the hole has no detail: nothing that the hole held is used.
    """
    rows, columns = hole.shape
    full = np.iinfo(pixels.dtype).max
    base = np.rint(np.clip(coarse, 0, 255) * np.float32(full / 255)).astype(pixels.dtype)
    size = (coarse.shape[1] * times, coarse.shape[0] * times)
    base = np.asarray(cv2.resize(base, size, interpolation=cv2.INTER_CUBIC))[:rows, :columns]
    out = pixels.copy()
    for top in range(0, rows, BAND):
        y, x = np.nonzero(hole[top : top + BAND])
        y += top
        down, right = moves[:, y // times, x // times] * times
        # the last row and column may stand for pixels beyond the picture
        there = np.clip(y + down, 0, rows - 1), np.clip(x + right, 0, columns - 1)
        detail = pixels[there].astype(np.float32) - base[there]
        detail[hole[there]] = 0
        out[y, x] = np.rint(np.clip(base[y, x] + detail, 0, full))
    return out
