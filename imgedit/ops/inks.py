"""What the letters in a box are made of: colours that stand out of its histogram, and veils of white and black."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import overlay, regions
from imgedit.ops.overlay import Overlay

Plane = NDArray[np.uint8]

#: colours are counted in this many steps per Lab channel; as many peaks are tried
STEPS, PEAKS = 26, 3
#: what an opaque colour is taken for: what is under 1 can be parted from noise
OPAQUE = 0.92
#: opacities that veils are tried at
VEILS = (0.25, 0.4, 0.55, 0.7)
#: rounds of the search that rank what is tried, and that part the best from the ground
RANKED, PARTED = 14, 60
#: strokes of one colour are smooth where their ground is not: that counts this much for each level and pixel
SMOOTH = 0.3
#: opaque strokes are parted as if they were only this opaque: their rims are
RIM = 0.5


class Ink(NamedTuple):
    """What strokes are made of and where they are. *soft*: (rows, columns) float32 of 0…1; *gain*: the evidence."""

    overlay: Overlay
    soft: NDArray[np.float32]
    gain: float


def best(crop: Plane, inside: NDArray[np.bool_], polygon: regions.Points) -> Ink | None:
    """Return the overlay that explains most of the steps *inside* a convex *polygon* of a uint8 *crop*.

    *crop*: (rows, columns, 3) RGB with some ground round the box; *inside*: (rows, columns). None where nothing does.
    """
    tried = [Overlay(colour, OPAQUE) for colour in peaks(crop, inside)]
    tried += [Overlay((shade,) * 3, opacity) for shade in (255.0, 0.0) for opacity in VEILS]
    cuts = overlay.cut(crop, inside, tried, rounds=RANKED, channels=False)
    texture = _texture(crop)
    gains = [_evidence(cut, one, texture, polygon) for cut, one in zip(cuts, tried)]
    first = int(np.argmax(gains))
    if gains[first] <= 0:
        return None
    chosen = tried[first]
    allowed = inside & overlay.possible(crop, chosen)
    parted = Overlay(chosen.colour, min(chosen.opacity, RIM))
    soft = overlay.cut(crop, allowed, [parted], rounds=PARTED, channels=True)[0].soft
    return Ink(chosen, soft, gains[first])


def peaks(crop: Plane, inside: NDArray[np.bool_]) -> list[tuple[float, float, float]]:
    """Return up to PEAKS colours (RGB, 0…255) that smooth pixels *inside* have more often than the others."""
    lab = cv2.cvtColor(crop.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    # L is 0…100; a and b stay within 100 in sRGB but for few colours
    scale: NDArray[Any] = np.array([STEPS / 100, STEPS / 200, STEPS / 200], np.float32)
    low: NDArray[Any] = np.array([0, -100, -100], np.float32)
    index = np.clip((lab - low) * scale, 0, STEPS - 1).astype(np.intp)
    flat = (index[..., 0] * STEPS + index[..., 1]) * STEPS + index[..., 2]
    square = np.ones((3, 3), np.uint8)
    smooth = 1 / (4 + cv2.morphologyEx(crop, cv2.MORPH_GRADIENT, square).max(axis=2).astype(np.float64))
    here = _counted(flat[inside], smooth[inside])
    elsewhere = _counted(flat[~inside], smooth[~inside])
    more = np.maximum(here - elsewhere, 0) * here / (here + elsewhere + 1e-9)
    found = []
    for _ in range(PEAKS):
        peak = np.unravel_index(int(more.argmax()), more.shape)
        if more[peak] <= 0:
            break
        near = inside & (index == np.array(peak)).all(axis=2)
        if near.any():
            red, green, blue = np.median(crop[near], axis=0).tolist()
            found.append((red, green, blue))
        more[tuple(slice(max(p - 2, 0), p + 3) for p in peak)] = 0
    return found


def _counted(index: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the shares (sum 1) of the STEPS³ colours, each spread over its neighbours."""
    cube: NDArray[Any] = np.bincount(index, weights, STEPS**3).reshape(STEPS, STEPS, STEPS).astype(np.float32)
    kernel = np.array([0.25, 0.5, 0.25], np.float32)
    for _ in range(3):
        # along the first axis, which then becomes the last
        cube = cv2.filter2D(cube.reshape(STEPS, -1), -1, kernel[:, None], borderType=cv2.BORDER_CONSTANT)
        cube = np.ascontiguousarray(np.moveaxis(cube.reshape(STEPS, STEPS, STEPS), 0, 2))
    return np.asarray(cube / max(float(cube.sum()), 1e-9), np.float32)


def _texture(crop: Plane) -> NDArray[np.float32]:
    """Return the mean step of each pixel to the right and down, levels."""
    levels = crop.astype(np.float32)
    steps = np.zeros(crop.shape[:2], np.float32)
    steps[:, :-1] += np.abs(np.diff(levels, axis=1)).mean(axis=2)
    steps[:-1] += np.abs(np.diff(levels, axis=0)).mean(axis=2)
    return steps


def _evidence(cut: overlay.Cut, one: Overlay, texture: NDArray[np.float32], polygon: regions.Points) -> float:
    strokes = (cut.soft > 0.5).view(np.uint8)
    if not strokes.any():
        return 0.0
    core = cv2.erode(strokes, np.ones((3, 3), np.uint8)) > 0
    ground = cv2.dilate(strokes, np.ones((5, 5), np.uint8)) == 0
    smoother = float(texture[ground].mean() - texture[core].mean()) if core.any() and ground.any() else 0.0
    gain = cut.gain + SMOOTH * float(np.count_nonzero(strokes)) * smoother * one.opacity**2
    return gain * spread(strokes, polygon) ** 2


def spread(strokes: Plane, polygon: regions.Points) -> float:
    """Return along which share of the line in *polygon* there are *strokes* (rows, columns) > 0."""
    along, height = regions.line(polygon)
    axis = np.array([math.cos(along), math.sin(along)])
    ends: list[float] = sorted((polygon @ axis).tolist())
    length = max(ends[-1] - ends[0], 1.0)
    rows, columns = np.nonzero(strokes)
    position = ((columns + 0.5) * axis[0] + (rows + 0.5) * axis[1] - ends[0]) / length
    # in pieces as long as the line is high: a letter and the space after it
    pieces = max(1, round(length / max(height, 1.0)))
    filled = np.bincount(np.clip(position * pieces, 0, pieces - 1).astype(np.intp), minlength=pieces)
    return float((filled > 0).mean())
