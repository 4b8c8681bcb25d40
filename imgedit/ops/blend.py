"""Blend a fill into what surrounds it: the step that it leaves along the hole's edge is spread over the hole.

Only pixels of the hole change. Texture stays; what goes is the offset in brightness and colour that shows as a seam.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import bands, each
from imgedit.ops.harmonic import harmonic

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: the means along the edge reach this many pixels to each side
REACH = 5
#: the step is trusted as far as it exceeds this many standard errors of the mean outside the hole
SURE = 3.0
#: the step is kept in units of half a level, from -64 to 63 levels
UNITS, ZERO = 2, 128
_ROOM = REACH + 3
_BAND = 1 << 16
_SQUARE = np.ones((3, 3), np.uint8)


def blend(pixels: Pixels, filled: Pixels, mask: Plane) -> Pixels:
    """Return *filled* without the step along the edge of the hole; where *mask* is 0 it stays as it is.

    *pixels*, *filled*: (rows, columns, 3), both uint8 or both uint16, before and after the fill; *mask*: (rows,
    columns) uint8, hole = above 0. The step is that between the outermost pixels of the hole and those round it, both
    continued to the edge between them by their slope and averaged over 11×11 pixels, so that neither texture nor a
    ramp counts as one; what may be chance is left out (as James and Stein, "Estimation with quadratic loss", 1961,
    shrink a mean towards 0). It is spread over the hole as a membrane: Pérez, Gangnet, Blake, "Poisson Image Editing"
    (2003), equation 8, with that step as the difference at the boundary.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return filled
    top, left = max(y - _ROOM, 0), max(x - _ROOM, 0)
    box = (slice(top, y + height + _ROOM), slice(left, x + width + _ROOM))
    hole = (mask[box] > 0).view(np.uint8)
    code = _code(pixels[box], filled[box], hole)
    if not (code != ZERO).any():
        return filled
    spread = harmonic(code, hole)
    level = 257 if pixels.dtype.itemsize > 1 else 1
    inside = hole > 0
    step = (spread[inside].astype(np.float32) - ZERO) * np.float32(level / UNITS)
    out = filled.copy()
    part = out[box]
    part[inside] = np.rint(np.clip(part[inside] + step, 0, 255 * level)).astype(pixels.dtype)
    return out


def _code(pixels: Pixels, filled: Pixels, hole: Plane) -> NDArray[np.uint8]:
    """Return the step at each pixel just outside the *hole*, in UNITS from ZERO, and ZERO elsewhere."""
    rows, columns = hole.shape
    code = np.full((rows, columns, 3), ZERO, np.uint8)

    def band(part: slice) -> None:
        around = slice(max(part.start - _ROOM, 0), min(part.stop + _ROOM, rows))
        kept = slice(part.start - around.start, part.stop - around.start)
        if not hole[around].any():
            return
        step, edge = _step(pixels[around], filled[around], hole[around])
        coded = np.clip(np.rint(ZERO + UNITS * step[kept][edge[kept]]), 0, 255)
        code[part][edge[kept]] = coded.astype(np.uint8)

    for _ in each(band, bands(rows, columns, _BAND)):
        pass
    return code


def _step(pixels: Pixels, filled: Pixels, hole: Plane) -> tuple[Floats, NDArray[np.bool_]]:
    """Return known less filled at the hole's edge, in levels, and the pixels just outside, which it is meant for."""
    scale = np.float32(1 / 257 if pixels.dtype.itemsize > 1 else 1)
    known, new = pixels.astype(np.float32) * scale, filled.astype(np.float32) * scale
    wide, narrow = cv2.dilate(hole, _SQUARE), cv2.erode(hole, _SQUARE)
    round_, beyond = wide - hole, cv2.dilate(wide, _SQUARE) - wide
    edge, core = hole - narrow, narrow - cv2.erode(narrow, _SQUARE)
    (out, counted), (out2, counted2) = _mean(known, round_), _mean(known, beyond)
    (inner, within), (inner2, within2) = _mean(new, edge), _mean(new, core)
    step = out - inner
    # thin strokes have no second row of pixels inside to take a slope from
    sloped = (counted2 > 0) & (2 * within2 >= within)
    step += np.where(sloped[..., None], (out - out2 - inner + inner2) / 2, 0)
    squares, _ = _mean(known * known, round_)
    chance = np.maximum(squares - out * out, 0) * (SURE**2 / np.maximum(counted, 1))[..., None]
    step *= np.maximum(0, 1 - chance / np.maximum(step * step, np.float32(1e-6)))
    return np.asarray(step, np.float32), (wide > hole) & (within > 0)


def _mean(values: Floats, where: Any) -> tuple[Floats, Floats]:
    """Return the mean of *values* over the pixels *where* within REACH, and their number."""
    window = (2 * REACH + 1, 2 * REACH + 1)
    weights = where.astype(np.float32)
    count = cv2.boxFilter(weights, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
    total = cv2.boxFilter(
        values * weights[..., None], cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(total / np.maximum(count, 1)[..., None], np.float32), np.asarray(count, np.float32)
