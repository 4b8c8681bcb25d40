"""Find for every patch over a hole the patch elsewhere that resembles it most, at one scale.

The field of matches is improved as a whole: each patch tries what its neighbours found, moved along, and places
at random round its own, in arrays over all patches. A source used more often than others becomes dear.

Sources: Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch" (2009); votes, Wexler, Shechtman, Irani, "Space-time
completion of video" (2007); the price of repetition, Kaspar and others, "Self tuning texture optimization" (2015).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.patches import Flags, Floats, Index, Votes, over, square, whole

SIDE = 7  # of a patch, pixels
STEPS = (1, 2, 4, 1)  # how far away, in patches, the neighbours are that are asked
RADII = (16, 6, 2, 1)  # pixels of the search at random; the widest is a quarter of the picture
KNOWN = 3.0  # weight of known pixels in the comparison; that of others falls by DECAY per pixel from them
DECAY = 1.2
LEAST = 0.05
PRICE = 50.0  # squared levels for each time that a place is copied more often than it must be
CHUNK = 2048  # patches compared at once: stays in the cache
FEW = 16  # patches that are to be left beside what is banned
MOST_SOURCES = 8000  # an exhaustive search takes an even sample of more
VOTERS = 16_384  # patches that vote at once: 25 MB
STEP = 2  # levels per unit of the exhaustive comparison: its sums stay below 2²⁴, exact in float32
NARROW = 2.0  # pixels, standard deviation of a patch's weight round its centre


class Level:
    """One scale: *levels* (rows, columns, 4) float32, 8-bit levels, and the matches of the patches over *hole*.

    At least one patch must be whole. *guess*, of the shape of *levels*, holds the hole as it is thought to be; the
    fourth value is not used. *match* holds for each patch the centre of its source in the flat picture; *voted* is what
    the patches said last, also of the known pixels next to the hole. Nothing is copied from where *banned* holds, the
    same picture at any scale, unless fewer than FEW patches were left.
    """

    def __init__(self, levels: Floats, hole: Flags, stride: int, banned: Flags | None = None) -> None:
        self.shape = hole.shape
        self.levels, self.hole, self.stride = levels, hole, stride
        self.guess = levels.copy()
        self.flat = levels.reshape(-1, 4)
        self.sources = whole(hole, SIDE)
        if banned is not None:
            size = (hole.shape[1], hole.shape[0])
            share = cv2.resize(banned.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            others = whole(hole | (share > 0), SIDE)
            self.sources = others if np.count_nonzero(others) >= FEW else self.sources
        self.square = square(SIDE, hole.shape[1])
        self.y, self.x = over(hole, SIDE, stride)
        self.place = self.y * hole.shape[1] + self.x
        self.match = self.place
        depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 5)
        trust = np.where(hole, np.maximum(DECAY**-depth, LEAST), KNOWN).astype(np.float32)
        self.root = np.sqrt(trust).ravel()
        self.cost = np.zeros(len(self.place), np.float32)
        self.extra: Floats | None = None
        self.voted = self.guess

    def start(self, guess: Floats, weights: tuple[int, int]) -> None:
        """Take *guess* for the hole and find the very best match of each patch, known and guessed pixels by *weights*.

        Weights up to 8 keep the sums exact.
        """
        self.guess = np.where(self.hole[..., None], guess, self.levels)
        self.guess[..., 3] = 0
        sources = np.flatnonzero(self.sources)
        sources = sources[:: len(sources) // MOST_SOURCES + 1]
        own, theirs = (np.rint((values.reshape(-1, 4) - 128) / STEP) for values in (self.guess, self.levels))
        own[:, 3] = theirs[:, 3] = 0
        theirs[:, 3] = np.square(theirs).sum(axis=1)
        right = theirs[sources[:, None] + self.square.offsets].reshape(len(sources), -1).T
        weight = np.where(self.hole, weights[1], weights[0]).ravel().astype(np.float32)
        match = np.empty(len(self.place), np.intp)
        for first in range(0, len(match), CHUNK):
            pixels = self.place[first : first + CHUNK, None] + self.square.offsets
            left = own[pixels] * (-2 * weight[pixels][..., None])
            left[..., 3] = weight[pixels]
            match[first : first + CHUNK] = (left.reshape(len(pixels), -1) @ right).argmin(axis=1)
        self.match = sources[match]
        self.cost = self._compare(np.arange(len(match)), self.match)

    def inherit(self, coarse: Level) -> None:
        """Take over the matches of a level of half the size."""
        rows, columns = self.shape
        number = np.full(coarse.shape[0] * coarse.shape[1], -1)
        number[coarse.place] = np.arange(len(coarse.place))
        near = _nearest(number.reshape(coarse.shape) >= 0)
        parent = number[near[self.y // 2, self.x // 2]]
        there = coarse.match[parent]
        y = 2 * (there // coarse.shape[1] - coarse.y[parent]) + self.y
        x = 2 * (there % coarse.shape[1] - coarse.x[parent]) + self.x
        inside = np.clip(y, 0, rows - 1) * columns + np.clip(x, 0, columns - 1)
        self.match = _nearest(self.sources).ravel()[inside]
        self.cost = np.zeros(len(self.match), np.float32)

    def improve(self, rng: np.random.Generator) -> None:
        """Let each patch try the matches of its neighbours, and places at random round its own."""
        self.extra = self._price()
        every = np.arange(len(self.place))
        self.cost = self._compare(every, self.match)
        number = np.full(self.hole.size, -1)
        number[self.place] = every
        rows, columns = self.shape
        for step in STEPS:
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                y, x = self.y + dy * step * self.stride, self.x + dx * step * self.stride
                inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
                near = np.where(inside, number[np.where(inside, y * columns + x, 0)], -1)
                which = np.flatnonzero(near >= 0)
                near = near[which]
                self._try(which, self.match[near] + self.place[which] - self.place[near])
        for radius in (max(rows, columns) // 4, *RADII):
            # one draw for each patch, whatever was found: the sequence depends on the seed and the hole alone
            away = rng.integers(-radius, radius + 1, (2, len(every)))
            y = np.clip(self.match // columns + away[0], 0, rows - 1)
            x = np.clip(self.match % columns + away[1], 0, columns - 1)
            self._try(every, y * columns + x)

    def vote(self, sharp: float) -> None:
        """Make *guess* anew from the matches. *sharp*: 1 averages what overlaps, 8 takes mostly the best."""
        votes = Votes(self.shape, SIDE)
        scale = 2 * float(np.quantile(self.cost, 0.75)) + 2
        for first in range(0, len(self.place), VOTERS):
            part = slice(first, first + VOTERS)
            weight: Any = -self.square.far / (2 * NARROW**2) - self.cost[part, None] / scale
            votes.add(self.place[part], self.flat[self.match[part, None] + self.square.offsets], sharp * weight)
        self.voted = votes.result(self.levels)
        self.guess = np.where(self.hole[..., None], self.voted, self.levels)
        self.guess[..., 3] = 0

    def matched(self) -> tuple[NDArray[np.int32], Floats]:
        """Return of the patch next to each pixel how far down and right what it copies lies, and what that costs.

        (2, rows, columns) pixels, and (rows, columns) squared levels.
        """
        columns = self.shape[1]
        flags = np.zeros(self.shape, bool)
        flags[self.y, self.x] = True
        number = np.zeros(self.hole.size, np.intp)
        number[self.place] = np.arange(len(self.place))
        near = number[_nearest(flags)]
        away = np.stack([self.match // columns - self.y, self.match % columns - self.x]).astype(np.int32)
        return away[:, near], self.cost[near]

    def _try(self, which: Index, match: Index) -> None:
        """Give the patches *which* the matches that are valid and better than theirs."""
        valid = (match >= 0) & (match < self.hole.size) & (match != self.match[which])
        valid &= self.sources.ravel()[np.where(valid, match, 0)]
        which, match = which[valid], match[valid]
        cost = self._compare(which, match)
        better = cost < self.cost[which]
        self.match[which[better]] = match[better]
        self.cost[which[better]] = cost[better]

    def _compare(self, which: Index, match: Index) -> Floats:
        """Return the weighted mean squared difference of the patches *which* from *match*, and the price of that."""
        cost = np.empty(len(which), np.float32)
        guess = self.guess.reshape(-1, 4)
        for first in range(0, len(which), CHUNK):
            part = slice(first, first + CHUNK)
            pixels = self.place[which[part], None] + self.square.offsets
            root = self.root[pixels]
            difference = self.flat[match[part, None] + self.square.offsets]
            difference -= guess[pixels]
            difference *= root[..., None]
            sums = np.einsum("ij,ij->i", *[difference.reshape(len(pixels), -1)] * 2)
            cost[part] = sums / np.einsum("ij,ij->i", root, root)
        if self.extra is not None:
            cost += self.extra[match]
        return cost

    def _price(self) -> Floats:
        """Return for each source how much dearer it is for having been copied often."""
        count = np.bincount(self.match, minlength=self.hole.size).astype(np.float32).reshape(self.shape)
        copies = cv2.boxFilter(count, -1, (5, 5)) * self.stride**2
        fair = max(1.0, len(self.place) * self.stride**2 / max(int(np.count_nonzero(self.sources)), 1))
        return np.asarray(PRICE * np.maximum(copies / fair - 1, 0)).ravel()


def _nearest(flags: Flags) -> Index:
    """Return for each pixel the number of the nearest one, in the flat picture, where *flags* holds."""
    _, label = cv2.distanceTransformWithLabels((~flags).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(label.max()) + 1, np.intp)
    table[label[flags]] = np.flatnonzero(flags)
    return np.asarray(table[label])
