"""Fill a hole with pieces of its surroundings: texture stays texture.

Thin holes take the best of their nearest patches. Others are filled coarse to fine: a guess at the scale where
the hole is a few pixels wide, which each finer scale draws sharper with the picture's own patches. Very large ones
are left before the finest scale, and only the detail is copied from there.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.harmonic import harmonic
from imgedit.ops.lively import lively
from imgedit.ops.nearest import SIDE as NEAREST_SIDE
from imgedit.ops.nearest import estimates
from imgedit.ops.patches import Flags, Floats, closed, whole
from imgedit.ops.patchmatch import SIDE, Level
from imgedit.ops.reduced import brought_up, first, half, large, smaller

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Box = tuple[slice, slice]

THIN = 6.5  # pixels from the middle of a hole to its edge, up to which all of its patches see the edge
COARSE = 5.0  # the same, at the scale to start with
ENOUGH = 64  # whole patches that a scale must have
# pixels round the hole that are searched at least; as many as half of the hole is wide, where that is more
CONTEXT = 96
MOST_CONTEXT = 384
BLOCK = 512  # pixels of a thin hole that are filled at once: what a scratch across a large picture takes stays bounded
SHARP = 12.0  # votes in thin holes: 0.8 of the texture; 4 keeps 0.7 with 0.2 dB less error, 30 little more
ROUNDS = 2  # of search and vote at each scale
FIRST_ROUNDS = 4
VOTES, FINE_VOTES, LAST_VOTES = 1.0, 4.0, 8.0  # how sharp: at coarse scales, at the finest, and at the very end


def way(mask: Plane) -> str:
    """Return how a hole (*mask* > 0) is filled: ``strokes``, ``scales``, ``reduced``, or ``harmonic``.

    ``reduced`` are scales without the finest; ``harmonic`` is taken where no patch is whole.
    """
    hole = mask > 0
    if not hole.any():
        return "strokes"
    thin = _depth(hole) <= THIN
    if not whole(hole, NEAREST_SIDE if thin else SIDE).any():
        return "harmonic"
    if thin:
        return "strokes"
    part = hole[_window(_box(mask))]
    if not large(part):
        return "scales"
    while large(part):
        part = smaller(part)
    return "reduced" if part.any() and np.count_nonzero(whole(part, SIDE)) >= ENOUGH else "harmonic"


def exemplar(pixels: Pixels, mask: Plane, seed: int = 0, *, calm: bool = False) -> Pixels:
    """Return *pixels* with pieces of what surrounds it where *mask* > 0; all else is kept bit for bit.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. What the hole held has no
    influence. *seed* starts the search in holes that are not thin. *calm*: where the scale is reduced, the patches give
    their detail to a harmonic fill. Without any whole patch of 7×7 (thin: 9×9) known pixels, or too few at the reduced
    scale, the fill is harmonic. Raises DataError when the mask leaves no pixel outside.
    """
    kind = way(mask)
    if kind == "harmonic" or not mask.any():
        return harmonic(pixels, mask)
    out = pixels.copy()
    rows, columns = _box(mask)
    if kind == "strokes":
        for top in range(rows.start, rows.stop, BLOCK):
            for left in range(columns.start, columns.stop, BLOCK):
                block = (slice(top, min(top + BLOCK, rows.stop)), slice(left, min(left + BLOCK, columns.stop)))
                _fill_strokes(out, pixels, mask, block)
    else:
        window = _window((rows, columns))
        out[window] = _by_scales(pixels[window], mask[window] > 0, seed, calm)[0]
    return out


def copied(pixels: Pixels, mask: Plane, seed: int = 0, banned: Plane | None = None) -> tuple[Pixels, Floats]:
    """Return what `exemplar` does where `way` is by scales, and how well patches match what they overlap there.

    The latter: (rows, columns) float32, mean squared difference in levels of 0…255. Nothing is copied from where
    *banned*, (rows, columns) uint8, is above 0, if enough is left.
    """
    out, misfit = pixels.copy(), np.zeros(mask.shape, np.float32)
    window = _window(_box(mask))
    avoided = None if banned is None else banned[window] > 0
    out[window], costs = _by_scales(pixels[window], mask[window] > 0, seed, False, avoided)
    misfit[window] = cv2.resize(costs, misfit[window].shape[::-1], interpolation=cv2.INTER_NEAREST)
    return out, misfit


def _box(mask: Plane) -> Box:
    x, y, width, height = cv2.boundingRect(mask)
    return slice(y, y + height), slice(x, x + width)


def _window(block: Box) -> Box:
    """Return *block* with what is searched round it."""
    side = max(part.stop - part.start for part in block)
    return _wider(block, min(max(CONTEXT, side // 2), MOST_CONTEXT))


def _wider(block: Box, context: int) -> Box:
    rows, columns = (slice(max(part.start - context, 0), part.stop + context) for part in block)
    return rows, columns


def _fill_strokes(out: Pixels, pixels: Pixels, mask: Plane, block: Box) -> None:
    """Fill the hole's pixels in *block* of *out*."""
    window = _wider(block, CONTEXT)
    inner = tuple(slice(part.start - around.start, part.stop - around.start) for part, around in zip(block, window))
    part, hole = pixels[window], mask[window]
    inside = hole[inner] > 0
    if not inside.any():
        return
    if (hole > 0).all():
        window = inner = (slice(None), slice(None))
        part, hole, inside = pixels, mask, mask > 0
    filled = estimates(part, hole, sharp=SHARP).texture
    out[block][inside] = np.rint(filled[inner][inside]).astype(pixels.dtype)


def _by_scales(
    pixels: Pixels, hole: Flags, seed: int, calm: bool, banned: Flags | None = None
) -> tuple[Pixels, Floats]:
    """Return *pixels* filled from the coarsest scale to the finest, or to the largest that is worked on.

    And, at that scale, (rows, columns) float32: how far patches are from what they overlap, squared levels of 0…255.
    """
    levels, reduced, times = first(pixels, hole)
    voted, moves, costs = _through_scales(levels, reduced, np.random.default_rng(seed), banned)
    filled = np.clip(closed(voted, levels, reduced), 0, 255)
    if times == 1:
        unit = np.float32(1 if pixels.dtype.itemsize == 1 else 257)
        return np.where(hole[..., None], np.asarray(np.rint(filled * unit), pixels.dtype), pixels), costs
    filled = np.where(reduced[..., None], filled, levels[..., :3])
    if calm:
        # in 16 bits, so that nothing is rounded that will show
        mask, copied = reduced.view(np.uint8), np.rint(filled * 257).astype(np.uint16)
        filled = (lively(harmonic(copied, mask), copied, mask, misfit=costs) / 257).astype(np.float32)
    return brought_up(pixels, hole, filled, moves, times), costs


def _through_scales(
    levels: Floats, hole: Flags, rng: np.random.Generator, banned: Flags | None
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Return what the patches of the finest scale say, how far away lies what they copy, and what that costs."""
    scales = [(levels, hole)]
    while _depth(scales[-1][1]) > COARSE:
        coarser = half(*scales[-1])
        if np.count_nonzero(whole(coarser[1], SIDE)) < ENOUGH:
            break
        scales.append(coarser)
    level = _coarsest(*scales.pop(), banned)
    _refine(level, rng, VOTES if scales else FINE_VOTES)
    while scales:
        finer = Level(*scales.pop(), stride=1 if len(scales) > 1 else 2, banned=banned)
        finer.inherit(level)
        level = finer
        sharp = VOTES if scales else FINE_VOTES
        level.vote(sharp)
        _refine(level, rng, sharp)
    level.vote(LAST_VOTES)
    return level.voted, *level.matched()


def _coarsest(levels: Floats, hole: Flags, banned: Flags | None) -> Level:
    """Return the scale to start with: from a harmonic guess, all patches compared with all."""
    level = Level(levels, hole, stride=1, banned=banned)
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


def _depth(hole: Flags) -> float:
    """Return the largest distance of a pixel of *hole* to a known one, in pixels."""
    return float(cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 5).max())
