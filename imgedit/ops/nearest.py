"""Estimate a thin hole from the patches round it that resemble its surroundings most.

Patches of 9×9 pixels that overlap the hole are compared with all whole patches nearby. What is known of a patch counts
fully, a harmonic first guess of the rest a little, and a constant difference of level hardly: it is moved away.
The comparison is a product of matrices of small integers. Every sum stays below 2²⁴, so that float32 holds
it exactly and neither the order of summation nor the number of threads can change which patch is found.

Sources: estimates by k nearest patches, Buades, Coll, Morel, "A non-local algorithm for image denoising" (2005);
votes of overlapping patches, Wexler, Shechtman, Irani, "Space-time completion of video" (2007), eq. 5; the seam is
closed as in Pérez, Gangnet, Blake, "Poisson image editing" (2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgedit.errors import starting_threads
from imgedit.ops.harmonic import harmonic
from imgedit.ops.patches import Votes, closed, over, square, whole

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]
Index = NDArray[np.intp]

SIDE = 9  # of a patch; 7 sees too little round a stroke, 11 costs twice the time for no gain on average
STRIDE = 3  # between the patches that are to be completed
TILE = 48  # patches of one tile share their candidates
WINDOW = 32  # pixels beyond a tile that are searched; more found nothing better
NEAREST = 16  # patches that are averaged
FEW = 256  # candidates below which the window is widened
MANY = 1500  # candidates above which an even sample of them is taken; twice as many found nothing better
KNOWN, GUESSED = 8, 1  # weights of known and of guessed pixels in the comparison
STEP = 4  # levels per unit of the comparison: more units would not fit below 2²⁴
SHIFT = 0.8  # share of a difference of level that is forgiven, and moved away
NARROW = 2.5  # pixels, standard deviation of a patch's weight round its centre
SHARP = 4.0  # half-way between the least error and all of the texture


class Estimates(NamedTuple):
    """Two fills of one hole, (rows, columns, 3) float32 in the units of the pixels; known pixels are exact.

    *mean*: of the nearest patches, the least error on average; *texture*: of single patches, as lively as the
    surroundings. Without any patch to take from, both are the harmonic fill.
    """

    mean: Floats
    texture: Floats


def estimates(
    pixels: Pixels, mask: Plane, guess: Floats | None = None, *, sharp: float = SHARP, stride: int = STRIDE
) -> Estimates:
    """Return two estimates for *pixels* where *mask* > 0, both from one search.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. Made for holes at most about
    12 pixels wide (strokes, scratches). *guess*: what ``harmonic`` returns for them, as float32, if known already.
    *sharp*: exponent of the votes for *texture*; 1 blurs, 30 shows the outlines of the patches. *stride*: pixels
    between patches; 4 take 0.6 of the time of 3, and cost .02 dB. What the hole held has no influence. Raises DataError
    when the mask leaves no pixel outside.
    """
    hole = mask > 0
    unit = np.float32(1 if pixels.dtype.itemsize == 1 else 257)
    known = pixels.astype(np.float32)
    if guess is None:
        guess = harmonic(pixels, mask).astype(np.float32)
    sources = whole(hole, SIDE)
    if not (hole.any() and sources.any()):
        return Estimates(guess, guess)
    levels = np.zeros((*hole.shape, 4), np.float32)
    levels[..., :3] = guess / unit
    search = _Search(levels, hole, sources, stride)
    votes = [Votes(hole.shape, SIDE), Votes(hole.shape, SIDE)]
    for place, mean, single, weight in search.patches():
        votes[0].add(place, mean, weight)
        votes[1].add(place, single, sharp * weight)

    def filled(vote: Votes) -> Floats:
        values = closed(vote.result(levels), levels, hole) * unit
        return np.where(hole[..., None], np.clip(values, 0, 255 * unit), known)

    with starting_threads(), ThreadPoolExecutor(2) as pool:
        return Estimates(*pool.map(filled, votes))


class _Search:
    """Compares the patches over the hole with their candidates, tile by tile."""

    def __init__(
        self, levels: Floats, hole: NDArray[np.bool_], sources: NDArray[np.bool_], stride: int = STRIDE
    ) -> None:
        self.shape, self.stride = hole.shape, stride
        self.sources = sources
        _, self.offsets, far = square(SIDE, hole.shape[1])
        self.close = -far / (2 * NARROW**2)
        self.levels = levels.reshape(-1, 4)
        self.known = (~hole).ravel().astype(np.float32)
        self.weights = np.where(hole, GUESSED, KNOWN).ravel().astype(np.float32)
        # the sum of squares goes first, so that one product gives w·s² − 2·w·s·t
        self.features = np.zeros_like(self.levels)
        self.features[:, 1:] = np.rint((self.levels[:, :3] - 128) / STEP)
        self.features[:, 0] = np.square(self.features).sum(axis=1)

    def patches(self) -> Iterator[tuple[Index, Floats, Floats, Floats]]:
        """Yield for each tile: centres (n,), mean and best patches (n, pixels, 4), log weights (n, pixels)."""
        y, x = over(self.known.reshape(self.shape) == 0, SIDE, self.stride)
        across = self.shape[1] // TILE + 1
        tile = (y // TILE) * across + x // TILE
        for number in np.unique(tile).tolist():
            own = tile == number
            place = y[own] * self.shape[1] + x[own]
            near, cost = self._nearest(place, self._candidates(number // across * TILE, number % across * TILE))
            yield self._averaged(place, near, cost)

    def _candidates(self, y: int, x: int) -> Index:
        """Return the centres of whole patches round the tile that begins at *y*, *x*."""
        rows, columns = self.shape
        reach = WINDOW
        while True:
            top, left = max(y - reach, 0), max(x - reach, 0)
            part = self.sources[top : y + TILE + reach, left : x + TILE + reach]
            if np.count_nonzero(part) >= FEW or reach > max(rows, columns):
                break
            reach *= 2
        cy, cx = np.nonzero(part)
        found = (cy + top) * columns + cx + left
        if len(found) > 2 * FEW:
            # every second patch, as on a chessboard, is as good on average; under a lattice all may lie on one colour
            thinned = found[(cy + cx) % 2 == 0]
            found = thinned if len(thinned) >= FEW else found
        count = min(len(found), MANY)
        return np.asarray(found[np.arange(count) * len(found) // count])

    def _of(self, values: Floats, centres: Index) -> Floats:
        """Return (…, pixels, 4), the *values* (pixels of the picture, 4) in the patches round *centres*."""
        # row by row of a patch: far fewer and longer pieces than pixel by pixel
        rows = np.lib.stride_tricks.sliding_window_view(values.reshape(-1), 4 * SIDE)[::4]
        found: Floats = rows[centres[..., None] + self.offsets[::SIDE]]
        return found.reshape(*centres.shape, SIDE * SIDE, 4)

    def _nearest(self, place: Index, candidates: Index) -> tuple[Index, Floats]:
        """Return the nearest candidates of each patch, best first, and their mean squared differences."""
        theirs, own = self._of(self.features, candidates), self._of(self.features, place)
        weight = self.weights[place[:, None] + self.offsets]
        total = weight.sum(axis=1, keepdims=True)
        left = own * (-2 * weight[..., None])
        left[..., 0] = weight
        distance = left.reshape(len(place), -1) @ theirs.reshape(len(candidates), -1).T
        for channel in (1, 2, 3):
            level = weight @ np.ascontiguousarray(theirs[..., channel]).T
            level -= (own[..., channel] * weight).sum(axis=1, keepdims=True)
            level *= np.sqrt(SHIFT / total)
            np.square(level, out=level)
            distance -= level
        count = min(NEAREST, len(candidates))
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        cost = np.take_along_axis(distance, near, axis=1)
        order = np.argsort(cost, axis=1, kind="stable")
        near, cost = (np.take_along_axis(values, order, axis=1) for values in (near, cost))
        cost += (own[..., 0] * weight).sum(axis=1, keepdims=True)
        return candidates[near], np.maximum(cost / total, 0)

    def _averaged(self, place: Index, near: Index, cost: Floats) -> tuple[Index, Floats, Floats, Floats]:
        count, pixels = len(place), len(self.offsets)
        patches = self._of(self.levels, near)
        difference = self._of(self.levels, place)[:, None] - patches
        known = self.known[place[:, None] + self.offsets]
        seen = known.sum(axis=1)
        share = (known / np.maximum(seen, 1)[:, None])[:, None, None]
        # of what each is off by on average, the comparison forgave a part
        off = np.matmul(share, difference)
        np.square(difference, out=difference)
        error = np.matmul(share, difference) - SHIFT * (2 - SHIFT) * np.square(off)
        best = error.sum(axis=(2, 3)).argmin(axis=1)
        shift = SHIFT * off
        every = np.arange(count)
        single = patches[every, best] + shift[every, best]
        least = cost[:, :1]
        similar = np.exp((least - cost) / (least + 4))
        similar /= similar.sum(axis=1, keepdims=True)
        mean = np.matmul(similar[:, None], patches.reshape(count, -1, 4 * pixels)).reshape(count, pixels, 4)
        mean += np.matmul(similar[:, None], shift[:, :, 0])
        # a patch that saw more and found better is believed more, most in its middle
        weight = 4 * np.log(seen / pixels + 0.02)[:, None] - np.log(least + 2) + self.close
        return place, mean, single, weight
