"""What belongs to strokes and is not of their colour: soft shadow, glow; and their ends beyond the box."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import masks

Plane = NDArray[np.uint8]

#: shadows reach this far from strokes, and the ground begins there; share of the line's height, and least in pixels
REACH, LEAST = 0.14, 4
#: strokes grown by this have lost their antialiased rim, pixels
EDGE = 2
#: the ring round strokes is shadow when it differs from its ground by this, in levels and in deviations of the ground
SHIFT, SURE = 5.0, 1.0
#: pixels of it belong to the shadow from this share of the shift there
SHARE = 0.4
#: letters are followed out of the box by this, share of the line's height
BEYOND = 0.2
#: how far a pixel there may be from the colour of the stroke that it continues, levels
LIKE = 24.0


def shadow(crop: Plane, strokes: Plane, height: float) -> Plane:
    """Return *strokes* with the soft shadow or glow round them; unchanged where there is none.

    *crop*: (rows, columns, 3) uint8; *strokes*: (rows, columns), 255 on strokes; *height*: of the line, pixels.
    """
    reach = max(LEAST, round(REACH * height))
    away = np.asarray(cv2.distanceTransform(255 - strokes, cv2.DIST_L2, 3))
    ring, ground = (away > EDGE) & (away <= reach), away > reach + 1
    if not ring.any() or not ground.any():
        return strokes
    shift = crop.astype(np.float32) - _nearby(crop, ground, 2 * round(max(height, 8) / 2) + 1)
    noise = float(np.sqrt((shift[ground] ** 2).mean()))
    grown = strokes.copy()
    for nearest in range(EDGE, reach):
        here = ring & (away > nearest) & (away <= nearest + 1)
        if not here.any():
            break
        mean = shift[here].mean(axis=0)
        size = float(np.sqrt((mean**2).mean()))
        if size < max(SHIFT, SURE * noise):
            break
        # how much of the mean shift each pixel shows
        part = shift @ (mean / float((mean**2).sum()))
        grown[here & (part > SHARE)] = 255
    return grown


def _nearby(crop: Plane, ground: NDArray[np.bool_], window: int) -> NDArray[np.float32]:
    """Return the mean of the *ground* in a window round each pixel, or of all of it where a window holds none."""
    weight = ground.astype(np.float32)
    size = (window, window)
    count = cv2.blur(weight, size)[..., None]
    total = cv2.blur(crop * weight[..., None], size)
    return np.where(count > 1e-3, total / np.maximum(count, 1e-3), crop[ground].mean(axis=0, dtype=np.float32))


def follow(crop: Plane, strokes: Plane, inside: Plane, height: float) -> Plane:
    """Return *strokes* with their ends that stick out of *inside* by up to BEYOND of the line's *height*.

    A pixel outside continues a stroke that touches the border of the box when it has its colour and is connected.
    """
    reach = max(1, round(BEYOND * height))
    border = (inside > 0) & (masks.dilate(255 - inside, 2) > 0)
    touching = border & (strokes > 0)
    if not touching.any():
        return strokes
    outside = (masks.dilate(inside, reach) > 0) & (inside == 0)
    core = np.asarray(cv2.erode(strokes, np.ones((3, 3), np.uint8)) > 0)
    core = core if np.count_nonzero(core) >= 0.1 * np.count_nonzero(strokes) else strokes > 0
    colours = crop[core].astype(np.float32)
    colour = np.median(colours, axis=0)
    alike = np.abs(crop.astype(np.float32) - colour).max(axis=2) <= LIKE
    # the ground beyond has that colour too: nothing tells them apart
    ends = outside & alike
    if np.count_nonzero(ends) > 0.25 * np.count_nonzero(outside):
        return strokes
    count, labels = cv2.connectedComponents((ends | touching).view(np.uint8), connectivity=8)
    met = np.zeros(count, bool)
    met[np.unique(labels[touching])] = True
    met[0] = False
    return np.asarray(np.where(met[labels] & ends, np.uint8(255), strokes))
