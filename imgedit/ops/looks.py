"""Other looks at a picture, in which text stands out that is faint in the picture itself.

Drawn colours: letters of one opaque colour are flat to the last bit, and textures are not, so that an exact colour
that is flat far more often than those beside it was drawn. Overlays: what is semi-transparent lifts the floor of the
texture below it, and survives a blur that the texture does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

#: a drawn colour is flat in this many pixels at least, and this often for each time that a colour beside it is
FLAT, SPIKE = 60, 3.0
#: what is beside a colour: this many levels away in each channel
BESIDE = 4
#: colours of letters that are looked for
COLOURS = 2
#: a level away from a drawn colour becomes this many
GAIN = 20
#: contrast is evened out over this share of the shorter side
REACH = 0.04


class Look(NamedTuple):
    """A changed picture (rows, columns, 3) uint8, and the 2×3 matrix from its pixel edges to those of the source."""

    pixels: Pixels
    matrix: NDArray[np.float64]


def drawn_colours(pixels: Pixels) -> list[tuple[int, int, int]]:
    """Return the colours of (rows, columns, 3) *pixels* that were drawn, not photographed, most frequent first.

    Black and white are left out: what is clipped is as flat as what is drawn.
    """
    here = pixels[:-1, :-1]
    same = (here == pixels[1:, :-1]).all(axis=2) & (here == pixels[:-1, 1:]).all(axis=2)
    flat = here[same].astype(np.int64)
    if len(flat) < FLAT:
        return []
    keys, counts = np.unique(flat @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    colours = np.stack([keys >> 16, (keys >> 8) & 255, keys & 255], axis=1)
    found = []
    for number in np.argsort(-counts, kind="stable")[:16]:
        colour = colours[number]
        near = abs(colours - colour).max(axis=1) <= BESIDE
        near[number] = False
        beside = int(counts[near].max()) if near.any() else 0
        clipped = colour.min() >= 254 or colour.max() <= 1
        if counts[number] >= max(FLAT, SPIKE * beside) and not clipped:
            found.append((int(colour[0]), int(colour[1]), int(colour[2])))
    return found[:COLOURS]


def keyed(pixels: Pixels, colour: tuple[int, int, int]) -> Pixels:
    """Return (rows, columns, 3) uint8: black where *pixels* have *colour*, white where they are far from it."""
    away = cv2.absdiff(pixels, np.array([*colour, 0], np.float64))
    worst = cv2.max(cv2.max(away[..., 0], away[..., 1]), away[..., 2])
    return np.asarray(cv2.cvtColor(cv2.multiply(worst, np.array([GAIN, 0, 0, 0], np.float64)), cv2.COLOR_GRAY2RGB))


def even(pixels: Pixels, blur: float = 0.0) -> Pixels:
    """Return the grey of *pixels*, blurred by *blur*, with local mean and contrast made the same everywhere."""
    grey: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if blur:
        grey = cv2.GaussianBlur(grey, (0, 0), blur)
    reach = max(3.0, REACH * min(grey.shape))
    mean = cv2.GaussianBlur(grey, (0, 0), reach)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(grey * grey, (0, 0), reach) - mean * mean, 0) + 25)
    level = np.clip(128 + 50 * (grey - mean) / spread, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(level, cv2.COLOR_GRAY2RGB))


def floor(pixels: Pixels, size: int) -> Pixels:
    """Return the darkest value within *size* × *size* pixels, channel by channel."""
    return np.asarray(cv2.erode(pixels, np.ones((size, size), np.uint8)))


def overlays(pixels: Pixels) -> Iterator[Look]:
    """Yield reduced and turned looks at *pixels* (shorter side about 512) in which large faint letters stand out."""
    yield _reduced(even(pixels, 2.0), 0.375, 0)
    yield _reduced(np.asarray(cv2.medianBlur(pixels, 5)), 0.5, 25)
    yield _reduced(even(floor(pixels, 5)), 0.5, -25)


def _reduced(pixels: Pixels, scale: float, degrees: float) -> Look:
    """Return *pixels* turned by *degrees* against the clock and reduced to *scale*."""
    rows, columns = pixels.shape[:2]
    # averaged first: turning samples
    size = (max(8, round(columns * scale)), max(8, round(rows * scale)))
    small: Any = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    factors = (columns / size[0], rows / size[1])
    matrix = np.array([[factors[0], 0, 0], [0, factors[1], 0]], np.float64)
    if degrees:
        turn = math.radians(degrees)
        cosine, sine = math.cos(turn), math.sin(turn)
        wide, tall = (math.ceil(abs(size[i] * cosine) + abs(size[1 - i] * sine)) for i in (0, 1))
        # from the turned picture's edges back to the reduced one's
        back = np.array([[cosine, -sine], [sine, cosine]])
        offset = np.array(size) / 2 - back @ (np.array([wide, tall]) / 2)
        centres = np.column_stack([back, offset + back @ (0.5, 0.5) - 0.5])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        small = cv2.warpAffine(small, centres, (wide, tall), flags=flags, borderMode=cv2.BORDER_REFLECT)
        matrix = np.column_stack([np.diag(factors) @ back, np.diag(factors) @ offset])
    return Look(np.ascontiguousarray(small), matrix)


def back(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 2) *points* of a look as points of its source."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])
