"""A semi-transparent overlay over the whole picture: its colour, its opacity, and all strokes that are of it.

Strokes of opacity a and colour c show p = (1 - a) b + a c over a ground b. So across the outline of every stroke the
same a holds, whatever the ground; edges of the picture itself give other shares each. That is the test: for a single
stroke, for a whole overlay, and for whether there is one at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import masks, overlay, regions
from imgedit.ops.overlay import Overlay

Plane = NDArray[np.uint8]

#: a picture is searched with lines of about this height, where regions tell, and reduced to at most so many pixels
HEIGHT, MOST = 32.0, 1_000_000
#: white and black at these opacities are tried
OPACITIES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
RANKED, PARTED = 20, 60
#: window in which a stroke is compared with its ground, pixels
WINDOW = 9
#: ground that is this near to the colour of the overlay tells nothing, levels
NEAR = 40.0
#: opacities along the outlines vary by at most this (quartiles, share of their median), and are at most this far from
#: what was assumed: in a picture without regions, and where text is known to be
CONSTANT, TRUE = 0.1, 0.25
CONSTANT_TEXT, TRUE_TEXT = 0.3, 0.4
#: a stroke elsewhere is of the same overlay within these
ALIKE, EVEN = 0.2, 0.35
#: fewer comparisons than these are no evidence: of a picture, of a stroke
ENOUGH, FEW = 300, 25
#: a stroke elsewhere is as long as this many heights of the known text, and at most so thick: joints of a wall run on,
#: and patches of ground are no letters
LETTERS, THICK = (0.25, 2.0), 0.3
#: known text stands again where it correlates by this with the fine detail, whose deviation is taken in a window of
#: this deviation and is this much at least, levels
AGAIN, FINE, CALM = 0.2, 10.0, 4.0
#: and where its outlines show these shares of the opacity that half of them show at its own place, which is this share
#: of the overlay's at least: a quarter of them at least the first, half the second, and half at most the third
QUARTER, HALF, MOST_SHOWN, OWN = 0.35, 0.55, 1.5, 0.4
#: in so many pixels at least, with lines of about this height: thin strokes are lost where they are reduced further
SHOWN, CLOSER = 100, 48.0
#: text of which more than this share is found already is the same
SAME = 0.5
#: texts that are looked for, largest first, and places that are looked at for each
TEXTS, PLACES = 4, 64


class Veil(NamedTuple):
    """*mask*: (rows, columns), 255 on strokes; *elsewhere*: on those that meet none of the known text.

    *overlay*: what they are of; *why*: where there is none, why not.
    """

    mask: Plane
    elsewhere: Plane
    overlay: Overlay | None
    why: str


class _Measured(NamedTuple):
    """Opacities along outlines, each with the number of the piece that it is of."""

    opacity: NDArray[np.float32]
    piece: NDArray[np.intp]


def find(pixels: NDArray[Any], polygons: Sequence[regions.Points]) -> Veil:
    """Return the strokes of one white or black overlay in (rows, columns, 3) uint8 or uint16 *pixels*.

    *polygons*: convex, where some of its text is known to be; all of its strokes there are taken, and those elsewhere
    that have its opacity. Without any, an overlay must show the same opacity all over the picture. The mask is empty
    where nothing convinces.
    """
    rows, columns = pixels.shape[:2]
    small = _reduced(pixels, polygons, HEIGHT)
    scale = (small.shape[1] / columns, small.shape[0] / rows)
    inside = np.zeros(small.shape[:2], np.uint8)
    for polygon in polygons:
        masks.draw(inside, polygon * scale)
    within = inside > 0 if inside.any() else np.ones(inside.shape, bool)
    tried = [Overlay((shade,) * 3, opacity) for shade in (255.0, 0.0) for opacity in OPACITIES]
    cuts = [overlay.cut(small, within, [one], rounds=RANKED, channels=False)[0] for one in tried]
    first = max(range(len(tried)), key=lambda i: cuts[i].gain)
    assumed = tried[first]
    found, why = _believed(small, cuts[first].soft, assumed, bool(inside.any()))
    if found is None:
        return Veil(masks.empty(rows, columns), masks.empty(rows, columns), None, why)
    soft = overlay.cut(small, overlay.possible(small, found), [found], rounds=PARTED, channels=True)[0].soft
    strokes = _alike(small, soft, found, inside)
    return Veil(_at(strokes, (rows, columns)), _at(_apart(strokes, inside), (rows, columns)), found, "")


def copies(pixels: NDArray[Any], strokes: Plane, polygons: Sequence[regions.Points], one: Overlay) -> tuple[Plane, int]:
    """Return further copies of known text, (rows, columns), 255 on their strokes, and how many there are.

    *strokes*: (rows, columns) of (rows, columns, 3) *pixels*, 255 on those in the *polygons*. A copy has the same size
    and slant, is of the same overlay *one*, and may be cut by the border of the picture.
    """
    rows, columns = strokes.shape
    small = _reduced(pixels, polygons, CLOSER)
    size = (small.shape[1], small.shape[0])
    known = cv2.resize(strokes, size, interpolation=cv2.INTER_AREA) > 127
    detail = _detail(small, one)
    found, count = np.zeros(known.shape, np.uint8), 0
    for polygon in sorted(polygons, key=lambda each: -regions.area(each))[:TEXTS]:
        inside = np.zeros(known.shape, np.uint8)
        masks.draw(inside, polygon * (size[0] / columns, size[1] / rows))
        own = ((inside > 0) & known).view(np.uint8)
        left, top, wide, tall = cv2.boundingRect(own)
        text = own[top : top + tall, left : left + wide]
        wanted = _shown(small, text, left, top, one)[1]
        # not of this overlay, or a copy itself
        if wanted < OWN * one.opacity or np.count_nonzero(found & own) > SAME * np.count_nonzero(own):
            continue
        for x, y in _places(detail, text):
            there, here = _overlap(text, x, y, known.shape)
            part = text[there]
            if (known[here] & (part > 0)).any() or np.count_nonzero(found[here] & part) > SAME * np.count_nonzero(part):
                continue
            low, middle = _shown(small, text, x, y, one)
            if low >= QUARTER * wanted and HALF * wanted <= middle <= MOST_SHOWN * wanted:
                found[here] |= part
                count += 1
    return _at(found * np.uint8(255), (rows, columns)), count


def _detail(small: Plane, one: Overlay) -> NDArray[np.float32]:
    """Return the fine detail of (rows, columns, 3) *small* with its contrast made even, up where *one* is."""
    grey: NDArray[np.float32] = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), FINE)
    even = fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), FINE)) + np.float32(CALM))
    return np.asarray(even if one.colour[0] > 127 else -even, np.float32)


def _places(detail: NDArray[np.float32], text: Plane) -> Sequence[tuple[int, int]]:
    """Return where (left, top) the detail looks like *text*, best first, half of it beyond the border at most."""
    rows, columns = text.shape
    half = (rows // 2, columns // 2)
    padded = cv2.copyMakeBorder(detail, half[0], half[0], half[1], half[1], cv2.BORDER_REFLECT)
    if padded.shape[0] < rows or padded.shape[1] < columns or not text.any():
        return []
    field = cv2.matchTemplate(padded, text.astype(np.float32), cv2.TM_CCOEFF_NORMED)
    places = []
    for _ in range(PLACES):
        _, best, _, (x, y) = cv2.minMaxLoc(field)
        if best < AGAIN:
            break
        places.append((x - half[1], y - half[0]))
        field[max(0, y - half[0]) : y + half[0] + 1, max(0, x - half[1]) : x + half[1] + 1] = -1
    return places


def _overlap(text: Plane, x: int, y: int, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of *text* laid at (*x*, *y*) that lies in a picture of *shape*, and where it lies there."""
    spans = [(max(0, at), min(limit, at + side)) for at, side, limit in zip((y, x), text.shape, shape)]
    there = tuple(slice(low - at, high - at) for (low, high), at in zip(spans, (y, x)))
    return (there[0], there[1]), (slice(*spans[0]), slice(*spans[1]))


def _shown(small: Plane, text: Plane, x: int, y: int, one: Overlay) -> tuple[float, float]:
    """Return lower quartile and median of the opacities that the outlines of *text* at (*x*, *y*) show.

    (0, 0) where too few pixels tell.
    """
    there, here = _overlap(text, x, y, small.shape[:2])
    (top, bottom), (left, right) = ((max(0, s.start - WINDOW), s.stop + WINDOW) for s in here)
    part = np.ascontiguousarray(small[top:bottom, left:right])
    soft = np.zeros(part.shape[:2], np.float32)
    soft[here[0].start - top : here[0].stop - top, here[1].start - left : here[1].stop - left] = text[there]
    shown = _opacities(part, soft, one)[0].opacity
    if len(shown) < SHOWN:
        return 0.0, 0.0
    low, middle = np.percentile(shown, (25, 50)).tolist()
    return low, middle


def _reduced(pixels: NDArray[Any], polygons: Sequence[regions.Points], height: float) -> Plane:
    rows, columns = pixels.shape[:2]
    scale = min(1.0, (MOST / (rows * columns)) ** 0.5)
    if polygons:
        scale = min(scale, height / max(float(np.median([regions.line(p)[1] for p in polygons])), 1.0))
    return np.ascontiguousarray(regions.searchable(pixels, max(1, round(scale * max(rows, columns)))))


def _believed(crop: Plane, soft: NDArray[np.float32], assumed: Overlay, text: bool) -> tuple[Overlay | None, str]:
    """Return the overlay with its opacity as measured, or none and why."""
    measured = _opacities(crop, soft, assumed)[0].opacity
    if len(measured) < (FEW if text else ENOUGH):
        return None, "no semi-transparent strokes stand out from the ground"
    low, middle, high = np.percentile(measured, (25, 50, 75)).tolist()
    constant, true = (CONSTANT_TEXT, TRUE_TEXT) if text else (CONSTANT, TRUE)
    if not 0 < middle < 1 or high - low > constant * middle:
        return None, f"opacities along the edges vary from {low:.2f} to {high:.2f}: they are not of one overlay"
    if abs(middle - assumed.opacity) > true * assumed.opacity:
        return None, f"edges that fit an opacity of {assumed.opacity:.2f} show one of {middle:.2f}"
    return Overlay(assumed.colour, middle), ""


def _opacities(crop: Plane, soft: NDArray[np.float32], one: Overlay) -> tuple[_Measured, NDArray[np.int32]]:
    """Return the opacities that strokes show beside their ground, and the pieces of *soft*, numbered from 1."""
    levels = crop.astype(np.float32)
    labels = np.asarray(cv2.connectedComponents((soft > 0.5).view(np.uint8), connectivity=8)[1], np.int32)
    core = (soft > 0.9).astype(np.float32)
    ground = (cv2.dilate((soft > 0.1).view(np.uint8), np.ones((3, 3), np.uint8)) == 0).astype(np.float32)
    strokes, near = (cv2.blur(part, (WINDOW, WINDOW)) for part in (core, ground))
    # an outline has both in its window
    where = (core > 0) & (strokes > 0.1) & (near > 0.1)
    over = cv2.blur(levels * core[..., None], (WINDOW, WINDOW))[where] / strokes[where][:, None]
    under = cv2.blur(levels * ground[..., None], (WINDOW, WINDOW))[where] / near[where][:, None]
    room = np.array(one.colour, np.float32) - under
    shown = ((over - under) * room).sum(axis=1) / np.maximum((room * room).sum(axis=1), 1)
    tells = np.abs(room).mean(axis=1) > NEAR
    return _Measured(shown[tells], labels[where][tells].astype(np.intp)), labels


def _at(strokes: Plane, shape: tuple[int, int]) -> Plane:
    """Return *strokes* at *shape* (rows, columns): 255 on them, else 0."""
    larger = cv2.resize(strokes, shape[::-1], interpolation=cv2.INTER_LINEAR) if strokes.shape != shape else strokes
    return masks.threshold(np.asarray(larger, np.uint8), 128)


def _apart(strokes: Plane, inside: Plane) -> Plane:
    """Return the pieces of *strokes* that lie wholly outside *inside*."""
    count, labels = cv2.connectedComponents(strokes, connectivity=8)
    apart = np.ones(count, bool)
    apart[np.unique(labels[inside > 0])] = False
    apart[0] = False
    return np.asarray(apart[labels].view(np.uint8) * np.uint8(255))


def _like_letters(labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return which of *count* pieces have the size of a letter, in a picture reduced to lines of HEIGHT."""
    lowest, most = LETTERS
    places = np.nonzero(labels)
    numbers = labels[places]
    longest = np.zeros(count, np.int64)
    for at in places:
        first, last = np.full(count, labels.size), np.full(count, -1)
        np.minimum.at(first, numbers, at)
        np.maximum.at(last, numbers, at)
        longest = np.maximum(longest, last - first + 1)
    depth = np.zeros(count, np.float32)
    # what lies beyond the picture is no part of a stroke
    inner = cv2.distanceTransform(np.pad((labels > 0).view(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    np.maximum.at(depth, numbers, inner[places])
    return (longest >= lowest * HEIGHT) & (longest <= most * HEIGHT) & (2 * depth - 1 <= THICK * HEIGHT)


def _alike(crop: Plane, soft: NDArray[np.float32], one: Overlay, inside: Plane) -> Plane:
    """Return the strokes *inside*, and the pieces elsewhere that show the opacity of the overlay all along."""
    (shown, piece), labels = _opacities(crop, soft, one)
    count = int(labels.max()) + 1
    order = np.lexsort((shown, piece))
    # one value more than any piece has: there may be nothing at all to compare
    shown, number = np.append(shown[order], 0), np.bincount(piece, minlength=count)
    start = np.cumsum(number) - number
    known = number >= FEW
    quarters = [
        np.where(known, shown[np.minimum(start + (number * share).astype(np.intp), len(shown) - 1)], 0)
        for share in (0.25, 0.5, 0.75)
    ]
    alike = known & (np.abs(quarters[1] - one.opacity) <= ALIKE * one.opacity)
    alike &= quarters[2] - quarters[0] <= EVEN * one.opacity
    # letters reach out of their region; what only passes through it does not
    size = np.bincount(labels.ravel(), minlength=count)
    of_text = np.bincount(labels[inside > 0], minlength=count) >= 0.5 * np.maximum(size, 1)
    alike &= _like_letters(labels, count) | (not inside.any())
    alike[0] = of_text[0] = False
    keep = alike[labels] | ((inside > 0) & (labels > 0)) | of_text[labels]
    return np.asarray(keep.view(np.uint8) * np.uint8(255))
