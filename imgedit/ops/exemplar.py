"""Fill a hole with pieces of its surroundings: texture stays texture.

Thin holes take the best of their nearest patches. Others are filled coarse to fine: a guess at the scale where
the hole is a few pixels wide, which each finer scale draws sharper with the picture's own patches.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.harmonic import harmonic
from imgedit.ops.nearest import SIDE as NEAREST_SIDE
from imgedit.ops.nearest import estimates
from imgedit.ops.patches import Flags, Floats, closed, whole
from imgedit.ops.patchmatch import SIDE, Level

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

THIN = 6.5  # pixels from the middle of a hole to its edge, up to which all of its patches see the edge
COARSE = 5.0  # the same, at the scale to start with
ENOUGH = 64  # whole patches that a scale must have
CONTEXT = (
    96  # pixels round the hole that are searched at least; as many as half of the hole is wide, where that is more
)
MOST_CONTEXT = 384
BLOCK = 512  # pixels of a thin hole that are filled at once: what a scratch across a large picture takes stays bounded
SHARP = 12.0  # votes in thin holes: 0.8 of the texture; 4 keeps 0.7 with 0.2 dB less error, 30 little more
ROUNDS = 2  # of search and vote at each scale
FIRST_ROUNDS = 4
VOTES, FINE_VOTES, LAST_VOTES = 1.0, 4.0, 8.0  # how sharp: at coarse scales, at the finest, and at the very end


def way(mask: Plane) -> str:
    """Return how a hole (*mask* > 0) is filled: ``strokes``, ``scales``, or ``harmonic`` where no patch is whole."""
    hole = mask > 0
    if not hole.any():
        return "strokes"
    thin = _depth(hole) <= THIN
    if not whole(hole, NEAREST_SIDE if thin else SIDE).any():
        return "harmonic"
    return "strokes" if thin else "scales"


def exemplar(pixels: Pixels, mask: Plane, seed: int = 0) -> Pixels:
    """Return *pixels* with pieces of what surrounds it where *mask* > 0; all else is kept bit for bit.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. What the hole held has no
    influence. *seed* starts the search in holes that are not thin. Without any whole patch of 7×7 (thin: 9×9) known
    pixels the fill is harmonic. Raises DataError when the mask leaves no pixel outside.
    """
    x, y, width, height = cv2.boundingRect(mask)
    kind = way(mask)
    if kind == "harmonic" or width == 0:
        return harmonic(pixels, mask)
    out = pixels.copy()
    if kind == "strokes":
        for top in range(y, y + height, BLOCK):
            for left in range(x, x + width, BLOCK):
                block = (slice(top, min(top + BLOCK, y + height)), slice(left, min(left + BLOCK, x + width)))
                _fill(out, pixels, mask, block, None)
    else:
        _fill(out, pixels, mask, (slice(y, y + height), slice(x, x + width)), seed)
    return out


def _fill(out: Pixels, pixels: Pixels, mask: Plane, block: tuple[slice, slice], seed: int | None) -> None:
    """Fill the hole's pixels in *block* of *out*, by strokes if there is no *seed*."""
    side = max(part.stop - part.start for part in block)
    context = CONTEXT if seed is None else min(max(CONTEXT, side // 2), MOST_CONTEXT)
    window = tuple(slice(max(part.start - context, 0), part.stop + context) for part in block)
    inner = tuple(slice(part.start - around.start, part.stop - around.start) for part, around in zip(block, window))
    part, hole = pixels[window], mask[window]
    inside = hole[inner] > 0
    if not inside.any():
        return
    if (hole > 0).all():
        window = inner = (slice(None), slice(None))
        part, hole, inside = pixels, mask, mask > 0
    filled = estimates(part, hole, sharp=SHARP).texture if seed is None else _by_scales(part, hole > 0, seed)
    out[block][inside] = np.rint(filled[inner][inside]).astype(pixels.dtype)


def _by_scales(pixels: Pixels, hole: Flags, seed: int) -> Floats:
    """Return (rows, columns, 3) in the units of *pixels*, filled from the coarsest scale to the finest."""
    rng = np.random.default_rng(seed)
    full, unit = (255, np.float32(1)) if pixels.dtype.itemsize == 1 else (65535, np.float32(257))
    levels = np.zeros((*hole.shape, 4), np.float32)
    levels[..., :3] = pixels / unit
    levels[hole] = 0
    scales = [(levels, hole)]
    while _depth(scales[-1][1]) > COARSE:
        smaller = _half(*scales[-1])
        if np.count_nonzero(whole(smaller[1], SIDE)) < ENOUGH:
            break
        scales.append(smaller)
    level = _coarsest(*scales.pop())
    _refine(level, rng, VOTES if scales else FINE_VOTES)
    while scales:
        finer = Level(*scales.pop(), stride=1 if len(scales) > 1 else 2)
        finer.inherit(level)
        level = finer
        sharp = VOTES if scales else FINE_VOTES
        level.vote(sharp)
        _refine(level, rng, sharp)
    level.vote(LAST_VOTES)
    filled = closed(level.voted, levels, hole) * unit
    return np.asarray(np.clip(filled, 0, full))


def _coarsest(levels: Floats, hole: Flags) -> Level:
    """Return the scale to start with: from a harmonic guess, all patches compared with all."""
    level = Level(levels, hole, stride=1)
    guess = levels.copy()
    known = np.clip(np.rint(levels[..., :3]), 0, 255).astype(np.uint8)
    guess[..., :3] = harmonic(known, hole.view(np.uint8))
    weights = (8, 1)
    for _ in range(FIRST_ROUNDS):
        level.start(guess, weights)
        level.vote(VOTES)
        guess, weights = level.guess, (8, 2)
    return level


def _refine(level: Level, rng: np.random.Generator, sharp: float) -> None:
    for _ in range(ROUNDS):
        level.improve(rng)
        level.vote(sharp)


def _half(levels: Floats, hole: Flags) -> tuple[Floats, Flags]:
    """Return both at half the size: means of the known pixels among 2×2; unknown where most of them are."""
    rows, columns = hole.shape
    more = (0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
    known = levels.copy()
    known[..., 3] = ~hole
    size = ((columns + 1) // 2, (rows + 1) // 2)
    mean: Any = cv2.resize(cv2.copyMakeBorder(known, *more), size, interpolation=cv2.INTER_AREA)
    share = mean[..., 3:]
    mean = np.divide(mean, share, out=np.zeros_like(mean), where=share > 0)
    mean[..., 3] = 0
    return mean, share[..., 0] < 0.5


def _depth(hole: Flags) -> float:
    """Return the largest distance of a pixel of *hole* to a known one, in pixels."""
    return float(cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 5).max())
