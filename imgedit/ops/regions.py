"""Geometry of text boxes: out of a score map, clipped, merged across tiles. Polygons are (n, 2) arrays of (x, y).

Coordinates are those of pixel edges: (0, 0) is the top left corner of the picture, and pixel (column, row)
covers [column, column + 1) × [row, row + 1). Scaling a picture by s scales its polygons by s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.depth import to8

Points = NDArray[np.float64]

#: two boxes are one when their intersection is at least this share of the smaller
SAME_AREA = 0.6
#: ... or when they are of one line: angles within 10 degrees, and across the line this share is common
SAME_LINE = 0.6
SAME_ANGLE = math.radians(10)
#: a box round two may be this much larger than what they cover
LOOSE = 1.5
#: a member of this share of a merged box's length stands for the whole of it, if no letter is missing: what it lacks is
#: at most this share of the box's height
WHOLE, LETTER = 0.85, 0.7


class Tile(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    rows: int
    columns: int

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return this part of (rows, columns, …) *pixels*, a view."""
        return pixels[self.top : self.top + self.rows, self.left : self.left + self.columns]

    def shows(self, polygon: Points, margin: float) -> bool:
        """Return whether *polygon* lies in this part, no nearer to its border than *margin*."""
        low, high = polygon.min(axis=0) - margin, polygon.max(axis=0) + margin
        beyond = high <= (self.left + self.columns, self.top + self.rows)
        return bool((low >= (self.left, self.top)).all() and beyond.all())


class Merged(NamedTuple):
    """One box made of several. *members*: their indices, best score first; *whole*: those as long as all of it."""

    polygon: Points
    members: tuple[int, ...]
    whole: tuple[int, ...]


def tiles(rows: int, columns: int, size: int, overlap: int) -> list[Tile]:
    """Return tiles of at most *size* × *size* pixels that cover the picture and overlap by at least *overlap*.

    They are as few as can be, of equal size and no larger than need be: pixels seen twice cost as much as others.
    What is shorter than *overlap* lies whole in at least one of them.
    """

    def spans(length: int) -> list[tuple[int, int]]:
        if length <= size:
            return [(0, length)]
        count = math.ceil((length - overlap) / (size - overlap))
        least = math.ceil((length + (count - 1) * overlap) / count)
        # places are rounded down and the last tile ends the picture, so that no overlap is a pixel short
        return [(i * (length - least) // (count - 1), least) for i in range(count)]

    return [Tile(top, left, high, wide) for top, high in spans(rows) for left, wide in spans(columns)]


def around(polygon: Points, size: int, rows: int, columns: int) -> Tile:
    """Return the tile of at most *size* × *size* pixels with *polygon* as near its middle as the picture allows."""
    x, y = (polygon.min(axis=0) + polygon.max(axis=0)) / 2
    high, wide = min(size, rows), min(size, columns)
    return Tile(
        min(max(round(y - high / 2), 0), rows - high), min(max(round(x - wide / 2), 0), columns - wide), high, wide
    )


def searchable(pixels: NDArray[Any], long_side: int | None = None) -> NDArray[np.uint8]:
    """Return (rows, columns, 3) *pixels* in 8 bit, reduced so that no side is longer than *long_side*."""
    eight = to8(pixels)
    rows, columns = eight.shape[:2]
    if long_side and max(rows, columns) > long_side:
        scale = long_side / max(rows, columns)
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        return np.asarray(cv2.resize(eight, size, interpolation=cv2.INTER_AREA), np.uint8)
    return eight


def is_flat(pixels: NDArray[Any], contrast: int = 10) -> bool:
    """Return whether no pixel of (rows, columns, 3) uint8 *pixels* differs from a neighbour by *contrast* levels."""
    square = np.ones((3, 3), np.uint8)
    return int(cv2.morphologyEx(np.ascontiguousarray(pixels), cv2.MORPH_GRADIENT, square).max()) < contrast


def boxes_of_map(
    scores: NDArray[np.float32], *, threshold: float, min_score: float, grow: float, min_side: float = 3
) -> list[tuple[Points, float]]:
    """Return the rotated boxes round the places where a (rows, columns) map of 0…1 exceeds *threshold*.

    Each comes with the mean of the map inside it, at least *min_score*. Boxes are grown by *grow* × area /
    perimeter on each side: the map marks the core of a line (Liao et al., "Real-time Scene Text Detection with
    Differentiable Binarization", AAAI 2020, section 3.4). Those with a side under *min_side* are dropped.
    """
    found = []
    contours, _ = cv2.findContours((scores > threshold).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        centre, (wide, high), angle = cv2.minAreaRect(contour)
        if min(wide, high) < min_side:
            continue
        corners = cv2.boxPoints((centre, (wide, high), angle))
        low = np.floor(corners.min(axis=0)).astype(int).clip(0)
        part = scores[low[1] : math.ceil(corners[:, 1].max()) + 1, low[0] : math.ceil(corners[:, 0].max()) + 1]
        inside = np.zeros(part.shape, np.uint8)
        cv2.fillPoly(inside, [np.rint(corners - low).astype(np.int32)], 1)
        score = float(cv2.mean(part, inside)[0])
        if score < min_score:
            continue
        # contours run through pixel centres: half a pixel more on each side, and to edge coordinates
        wide, high = wide + 1, high + 1
        margin = grow * wide * high / (wide + high)
        corners = cv2.boxPoints((centre, (wide + margin, high + margin), angle))
        found.append((corners.astype(np.float64) + 0.5, score))
    return found


def clip(polygon: Points, rows: int, columns: int) -> Points:
    """Return the part of a convex polygon that lies in the picture; an empty array where nothing does."""
    frame = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float64)
    inside = (polygon >= 0).all() and (polygon <= (columns, rows)).all()
    return polygon if inside else _intersection(polygon, frame)


def area(polygon: Points) -> float:
    """Return the area of a polygon in square pixels."""
    return abs(_signed_area([(float(x), float(y)) for x, y in polygon]))


def line(polygon: Points) -> tuple[float, float]:
    """Return the direction of the longer side of a box (radians) and the length of the shorter."""
    _, (wide, high), angle = cv2.minAreaRect(polygon.astype(np.float32))
    return (math.radians(angle), high) if wide >= high else (math.radians(angle + 90), wide)


def overlap(one: Points, other: Points) -> float:
    """Return the area common to two convex polygons as a share of the smaller one (0…1)."""
    smaller = min(area(one), area(other))
    return area(_intersection(one, other)) / smaller if smaller > 0 else 0.0


def merge(polygons: Sequence[Points], scores: Sequence[float]) -> list[Merged]:
    """Return *polygons* (convex) with those that mark the same text made one, in reading order.

    The same are: boxes of which one lies mostly in the other, and boxes that continue each other along a line, as
    those that a tile's border cuts. A merged box is the smallest rotated rectangle round its members, unless
    that takes in much that none of them covers: then it is the largest of them. Nothing is lost: the centre of
    every polygon lies in a merged one or had a higher scored one over it.
    """
    groups: list[tuple[Points, tuple[int, ...]]] = [(polygon, (i,)) for i, polygon in enumerate(polygons)]
    groups.sort(key=lambda group: (-area(group[0]), *group[0].mean(axis=0)))
    settled = False
    while not settled:
        settled = True
        kept: list[tuple[Points, tuple[int, ...]]] = []
        for polygon, members in groups:
            place = next((i for i, (other, _) in enumerate(kept) if _same(polygon, other)), None)
            if place is None:
                kept.append((polygon, members))
            else:
                kept[place] = (_around(kept[place][0], polygon), kept[place][1] + members)
                settled = False
        groups = kept
    merged = []
    for polygon, members in groups:
        best = tuple(sorted(members, key=lambda i: -scores[i]))
        along, high = line(polygon)
        axis = np.array([math.cos(along), math.sin(along)])
        length = float(np.ptp(polygon @ axis))
        least = max(WHOLE * length, length - LETTER * high)
        whole = tuple(i for i in best if np.ptp(polygons[i] @ axis) >= least)
        merged.append(Merged(polygon, best, whole))
    return sorted(merged, key=lambda one: (round(one.polygon[:, 1].mean()), one.polygon[:, 0].min()))


def _same(one: Points, other: Points) -> bool:
    if (one.min(axis=0) >= other.max(axis=0)).any() or (other.min(axis=0) >= one.max(axis=0)).any():
        return False
    common = _intersection(one, other)
    if len(common) < 3:
        return False
    if area(common) >= SAME_AREA * min(area(one), area(other)):
        return True
    (along, high), (along2, high2) = line(one), line(other)
    turn = abs((along - along2 + math.pi / 2) % math.pi - math.pi / 2)
    if turn > SAME_ANGLE:
        return False
    across = common @ np.array([-math.sin(along), math.cos(along)])
    return bool(np.ptp(across) >= SAME_LINE * max(high, high2))


def _around(one: Points, other: Points) -> Points:
    """Return the box for two boxes that mark the same text."""
    larger = one if area(one) >= area(other) else other
    if overlap(one, other) > 0.95:
        return larger
    points = np.concatenate([one, other]).astype(np.float32)
    around = cv2.boxPoints(cv2.minAreaRect(points)).astype(np.float64)
    covered = area(one) + area(other) - area(_intersection(one, other))
    return around if area(around) <= LOOSE * covered else larger


def _intersection(one: Points, other: Points) -> Points:
    """Return the common part of two convex polygons (Sutherland and Hodgman, 1974); empty where there is none.

    In float64 and by hand: OpenCV's intersectConvexConvex finds nothing common in some nearly equal boxes.
    """
    corners = [(float(x), float(y)) for x, y in one]
    edges = [(float(x), float(y)) for x, y in other]
    if _signed_area(edges) < 0:
        edges.reverse()
    for (x0, y0), (x1, y1) in zip(edges, edges[1:] + edges[:1]):
        sides = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in corners]
        kept: list[tuple[float, float]] = []
        for (x, y), side, (x2, y2), side2 in zip(corners, sides, corners[1:] + corners[:1], sides[1:] + sides[:1]):
            if side >= 0:
                kept.append((x, y))
            if (side < 0 < side2) or (side2 < 0 < side):
                share = side / (side - side2)
                kept.append((x + share * (x2 - x), y + share * (y2 - y)))
        corners = kept
    # what only touches has nothing in common
    return np.array(corners) if len(corners) > 2 and abs(_signed_area(corners)) > 1e-9 else np.zeros((0, 2))


def _signed_area(corners: Sequence[tuple[float, float]]) -> float:
    following = [*corners[1:], *corners[:1]]
    return 0.5 * sum(x * y2 - x2 * y for (x, y), (x2, y2) in zip(corners, following))


def corners(polygon: Points) -> tuple[tuple[float, float], ...]:
    """Return a polygon as it stands in a sidecar: to a tenth of a pixel."""
    return tuple((float(x), float(y)) for x, y in polygon.round(1))


def bounds(polygon: Points, margin: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of the whole pixels round a polygon, with *margin*, inside the picture."""
    left, top = np.floor(polygon.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + margin
    left, top = min(max(int(left), 0), columns), min(max(int(top), 0), rows)
    right, bottom = min(max(int(right), left), columns), min(max(int(bottom), top), rows)
    return left, top, right - left, bottom - top
