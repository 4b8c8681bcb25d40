"""A logo to look for, and how like it a place in a picture is."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import DataError
from imgedit.ops.depth import to8

Grey = NDArray[np.uint8]
Points = NDArray[np.float64]

#: the logo is compared at this size, and its features are taken at this one, pixels of the longer side
COMPARED, LEARNT = 128, 400
#: a logo of less contrast than this cannot be told from flat ground, levels
CONTRAST = 8.0
#: places of one logo in one picture
MOST = 16


class Look(NamedTuple):
    """One way that a logo may be printed: its grey, key points and their descriptors (n, 128).

    *points*: (n, 4) of x, y, size and direction: pixels and radians.
    """

    grey: Grey
    points: Points
    descriptors: NDArray[np.float32]


class Logo(NamedTuple):
    """A logo to look for. *shape*: (rows, columns), 255 where it is opaque; *looks*: how it may be printed."""

    colours: NDArray[np.uint8]
    shape: Grey
    looks: tuple[Look, ...]


class Place(NamedTuple):
    """Where a logo is: its corners (n, 2) in pixels, and how sure that is (0…1)."""

    polygon: Points
    score: float


def logo(pixels: NDArray[Any], alpha: NDArray[Any] | None) -> Logo:
    """Return (rows, columns, 3) *pixels* and *alpha*, uint8 or uint16, as a logo to look for.

    Of a transparent logo *alpha* is the shape: it may be printed in its colours on light or dark ground, or in white
    or black alone. Raises DataError for a logo without any contrast.
    """
    colours = to8(pixels)
    shape = np.full(colours.shape[:2], 255, np.uint8) if alpha is None else to8(alpha)
    x, y, wide, tall = cv2.boundingRect((shape > 25).view(np.uint8))
    if not wide:
        raise DataError("the logo is transparent everywhere", "give a picture of the logo that shows it")
    scale = min(1.0, LEARNT / max(wide, tall))
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    parts = [np.ascontiguousarray(part[y : y + tall, x : x + wide]) for part in (colours, shape)]
    colours, shape = (np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8) for part in parts)
    if shape.min() < 230:
        # ground round a transparent logo: its outline is part of its look
        border = max(4, round(0.06 * max(shape.shape)))
        colours = np.pad(colours, ((border, border), (border, border), (0, 0)), mode="edge")
        shape = np.pad(shape, border)
    printed = [look for look in _printed(colours, shape) if look.std() >= CONTRAST]
    if not printed or min(size) < 8:
        raise DataError(
            "the logo has no features to find it by: it is flat or tiny", "give a larger picture of it, with its border"
        )
    return Logo(colours, shape, tuple(features(look) for look in printed))


def _printed(colours: NDArray[np.uint8], shape: Grey) -> list[Grey]:
    """Return the greys that a logo may be printed in."""
    grey = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.uint8)
    if shape.min() >= 230:
        return [grey]
    share = shape.astype(np.float32) / 255
    grounds = [np.rint(grey * share + ground * (1 - share)).astype(np.uint8) for ground in (0, 255, 128)]
    return [*grounds, shape, np.asarray(255 - shape, np.uint8)]


def features(grey: Grey) -> Look:
    """Return *grey*, (rows, columns), with its local features."""
    # weak contrast counts too: a logo may be printed half transparent
    found: Any = cv2.SIFT.create(contrastThreshold=0.015).detectAndCompute(grey, None)
    points, descriptors = found
    if descriptors is None:
        return Look(grey, np.zeros((0, 4)), np.zeros((0, 128), np.float32))
    # RootSIFT (Arandjelović and Zisserman, CVPR 2012)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    # key points count from the centre of the first pixel
    known = [(point.pt[0] + 0.5, point.pt[1] + 0.5, point.size, math.radians(point.angle)) for point in points]
    return Look(grey, np.array(known), rooted.astype(np.float32))


def correlation(pixels: NDArray[np.uint8], wanted: Logo, matrix: Points) -> float:
    """Return how the picture at *matrix*, laid back onto the logo, correlates with it (-1…1).

    In its colours inside its shape, or by its outline with some ground round it: whichever is more alike.
    """
    rows, columns = wanted.shape.shape
    scale = min(1.0, COMPARED / max(rows, columns))
    size = (max(8, round(columns * scale)), max(8, round(rows * scale)))
    shrink = np.diag([size[0] / columns, size[1] / rows, 1.0])
    # from pixel centres to pixel centres
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    to_scene = np.linalg.inv(half) @ matrix @ np.linalg.inv(shrink) @ half
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(pixels, to_scene, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    shape = cv2.resize(wanted.shape, size, interpolation=cv2.INTER_AREA)
    inside, near = shape > 200, cv2.dilate(shape, np.ones((7, 7), np.uint8)) > 25
    own = cv2.resize(wanted.colours, size, interpolation=cv2.INTER_AREA)
    best = _alike(seen[inside], own[inside])
    grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY)
    for look in wanted.looks:
        best = max(best, _alike(grey[near], cv2.resize(look.grey, size, interpolation=cv2.INTER_AREA)[near]))
    return best


def _alike(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the correlation of two equally long lists of values, channel means aside; 0 where one has no contrast."""
    if len(one) < 24:
        return 0.0
    first, second = (values - values.mean(axis=0) for values in (one.astype(np.float64), other.astype(np.float64)))
    if min(first.std(), second.std()) < 2:
        return 0.0
    both = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / both


def outline(wanted: Logo, matrix: Points) -> Points:
    """Return the convex outline of the logo's shape in the picture, with a margin for its soft edge."""
    shape = cv2.dilate((wanted.shape > 25).view(np.uint8), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours).reshape(-1, 2).astype(np.float32)).reshape(-1, 2)
    hull = cv2.approxPolyDP(hull, 1.0, True).reshape(-1, 2).astype(np.float64) + 0.5
    middle = hull.mean(axis=0)
    away = hull - middle
    hull += away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6) * (1.5 + 0.01 * max(shape.shape))
    return np.asarray(cv2.perspectiveTransform(hull[None], matrix)[0], np.float64)


def moved(place: Place, x: float, y: float) -> Place:
    """Return *place* moved by *x* to the right and *y* down."""
    return place._replace(polygon=place.polygon + np.array([x, y]))


def distinct(places: list[Place]) -> list[Place]:
    """Return *places* without those whose middle lies in a better one, best first."""
    kept: list[Place] = []
    for place in sorted(places, key=lambda each: (-each.score, *each.polygon.mean(axis=0))):
        x, y = place.polygon.mean(axis=0)
        if all(cv2.pointPolygonTest(one.polygon.astype(np.float32), (float(x), float(y)), False) < 0 for one in kept):
            kept.append(place)
    return kept[:MOST]
