"""What is left of text after a repair, and where the mask has to grow for it. Polygons are (n, 2) arrays of (x, y)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import glyph, masks, regions

Plane = NDArray[np.uint8]
Points = regions.Points

#: of a text that was to go, at least this share lies in the mask, seen without the gaps between its letters
ASKED = 0.5
GAPS = 0.25  # such gaps, share of the line's height
#: and of what is left of it, this share
NEAR = 0.25
#: what continues a line lies in a strip along it, and begins so far from its end that letters that nobody reads may
#: stand between: both in heights of the line
STRIP, AHEAD = 1.6, 3.0
#: a find is other text when this share of the smaller lies in the other
SAME = 0.5
#: a find was made by the fill if this share of its strokes lies where all was filled
FILLED = 0.7
#: by how much the polygon of a find is enlarged where it goes into the mask whole, share of its height, by round
GROWN = (0.0, 0.15, 0.35)
STEPS = len(GROWN)
#: and by how many pixels strokes and mask are, before that
REACH = 2


def asked(mask: Plane, places: Sequence[Points]) -> Plane:
    """Return 255 where something was to go: *mask* > 0, and those of the *places* that it touches."""
    wanted = np.asarray((mask > 0).view(np.uint8) * np.uint8(255))
    for place in places:
        drawn, box = _drawn(place, 0, mask.shape)
        if (drawn & mask[box]).any():
            wanted[box] |= drawn
    return wanted


def left(
    found: Sequence[Points], others: Callable[[], Sequence[Points]], mask: Plane, places: Sequence[Points] = ()
) -> list[int]:
    """Return which of *found*, the text in a repaired picture, is left of what was to go.

    *mask*: (rows, columns) uint8, of what was to go; *places*: the texts that it was drawn for, if known. A find is
    left if a quarter of it lies in them, or if it continues the line of one of them; and if it is no text that was
    there before and was not to go: *others* finds the text of the picture before the repair, and is asked only then.
    """
    wanted = asked(mask, places)
    touched = [place for place in places if _share(wanted, place, 0) >= ASKED]
    close = [
        i
        for i, find in enumerate(found)
        if _share(wanted, find, GAPS * regions.line(find)[1]) >= NEAR or any(_continues(find, t) for t in touched)
    ]
    if not close:
        return []
    kept = other(others(), wanted)
    return [i for i in close if not any(regions.overlap(found[i], text) >= SAME for text in kept)]


def other(known: Sequence[Points], wanted: Plane) -> list[Points]:
    """Return those of the *known* texts of a picture that lie mostly outside what is *wanted* to go."""
    return [text for text in known if _share(wanted, text, GAPS * regions.line(text)[1]) < ASKED]


def invented(mask: Plane, repaired: NDArray[Any], finds: Sequence[Points]) -> list[tuple[int, int, int, int]]:
    """Return the boxes (x, y, width, height) of those *finds* whose strokes in *repaired* a fill of *mask* has made."""
    boxes = []
    for find in finds:
        strokes, box = _strokes(repaired, find)
        inside = cv2.countNonZero(strokes & np.asarray((mask[box] > 0).view(np.uint8) * np.uint8(255)))
        if inside >= FILLED * max(cv2.countNonZero(strokes), 1):
            boxes.append(regions.bounds(find, 0, *mask.shape))
    return boxes


def tighten(
    mask: Plane, repaired: NDArray[Any], finds: Sequence[Points], kept: Sequence[Points], number: int, cell: int = 1
) -> Plane:
    """Return *mask* with the places of *finds* after round *number* (1, 2, …) taken in; nothing that was set is lost.

    After the first round: the strokes that still stand out there in the *repaired* pixels (rows, columns, 3), and the
    mask round them grown by two pixels; later the whole polygon, more of it each round, up to round ``STEPS``. What is
    added consists of whole cells of *cell* pixels, of which none touches the texts *kept*.
    """
    added = masks.empty(*mask.shape)
    for find in finds:
        height = regions.line(find)[1]
        grown = max(REACH, round(GROWN[min(number, len(GROWN)) - 1] * height))
        place, box = _drawn(find, grown, mask.shape)
        if number == 1:
            seen = masks.empty(*mask.shape)
            strokes, around = _strokes(repaired, find)
            seen[around] = strokes
            # the edge of a letter fades over pixels: what was left of it lies at the mask's border
            place &= masks.dilate((mask[box] > 0).view(np.uint8) * np.uint8(255) | seen[box], REACH)
        added[box] |= place
    added = masks.to_grid(added, cell, 0)
    stays = masks.empty(*mask.shape)
    for text in kept:
        place, box = _drawn(text, 0, mask.shape)
        stays[box] |= place
    return np.asarray(np.maximum(mask, added & ~masks.to_grid(stays, cell, 0)))


def _strokes(pixels: NDArray[Any], find: Points) -> tuple[Plane, tuple[slice, slice]]:
    """Return the strokes of *find*, or all of it where they are not sure, as 255 in a box round it, and that box."""
    rows, columns = pixels.shape[:2]
    room = math.ceil(regions.line(find)[1]) + 2  # the ground that letters are told from
    x, y, width, height = regions.bounds(find, room, rows, columns)
    drawn = masks.empty(height, width)
    if drawn.size:
        glyph.draw(drawn, pixels[y : y + height, x : x + width], find - (x, y))
    return drawn, (slice(y, y + height), slice(x, x + width))


def _drawn(polygon: Points, grown: int, shape: tuple[int, ...]) -> tuple[Plane, tuple[slice, slice]]:
    """Return a convex *polygon*, *grown* by pixels, as 255 in the box round it, and that box."""
    x, y, width, height = regions.bounds(polygon, grown + 1, shape[0], shape[1])
    part = masks.empty(height, width)
    if part.size:
        masks.draw_covering(part, polygon - (x, y))
        part = masks.dilate(part, grown)
    return part, (slice(y, y + height), slice(x, x + width))


def _continues(find: Points, text: Points) -> bool:
    """Tell whether *find* goes on where the line *text* ends, or a few letters further."""
    angle, height = regions.line(text)
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    line, rest = text @ turned, find @ turned  # along the line, across it
    centre = (line[:, 1].min() + line[:, 1].max()) / 2
    gap = max(rest[:, 0].min() - line[:, 0].max(), line[:, 0].min() - rest[:, 0].max())
    return bool(np.abs(rest[:, 1] - centre).max() <= STRIP / 2 * height and gap <= AHEAD * height)


def _share(wanted: Plane, polygon: Points, reach: float) -> float:
    """Return which share of *polygon* lies within *reach* pixels of what is *wanted*."""
    x, y, width, height = regions.bounds(polygon, math.ceil(reach) + 1, *wanted.shape)
    if not (width and height):
        return 0.0
    near = masks.dilate(wanted[y : y + height, x : x + width], round(reach))
    drawn = masks.empty(height, width)
    masks.draw_covering(drawn, polygon - (x, y))
    return cv2.countNonZero(near & drawn) / max(cv2.countNonZero(drawn), 1)
