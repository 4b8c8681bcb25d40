"""Find a given logo in a picture at any scale and rotation.

Local features (Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004) are matched; those that
agree on where the logo's middle is, how large and how turned, vote for a place; a homography is fitted to them by
RANSAC, and the place is laid back onto the logo: only where the two correlate is it found. What is
transparent looks different on every ground, and what is plain has few features: these are then looked for by the
correlation of their own colours, at many scales and angles.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.logo import MOST, Logo, Look, Place, Points, correlation, distinct, features, outline

#: features: a match must be this much nearer than the next; so many must agree on one place, within these pixels; fewer
#: than the second number are believed where the place is very much alike; places without success that are looked at
RATIO, FEWEST, FEW, WITHIN, TRIES = 0.8, 3, 6, 4.0, 12
#: matches agree on a place where they turn the logo alike (radians), and enlarge it alike (factor), and put its middle
#: as near to each other as this share of its longer side there; so many are compared at most
TURN, ENLARGE, MIDDLE, COMPARED_AT_MOST = 0.4, 1.6, 0.25, 2000
#: least correlation of a place found by features, by few of them, and of one found by correlation alone
ALIKE, ALIKE_FEW, ALIKE_ALONE = 0.45, 0.75, 0.85
#: this many agreeing features are about as good as a perfect correlation
MANY = 15.0
#: correlation alone: the picture's longer side, the shortest logo there, and steps of scale and of angle (degrees)
ALONE_SIDE, ALONE_LEAST, ALONE_STEP, ALONE_TURN = 192, 16, 1.25, 20
#: places that correlate this well there are looked at closely, so many at most
HOPEFUL, CLOSELY = 0.55, 6
#: a logo of fewer features is looked for by correlation where features do not find it
SPARSE = 16


def find(pixels: NDArray[np.uint8], wanted: Logo, *, closely: bool = True) -> list[Place]:
    """Return the places of a logo in (rows, columns, 3) uint8 *pixels*, best first; corners may lie outside.

    Where features find nothing, and the logo is transparent or has few, the best place by correlation alone is
    looked for, with *closely*: that takes about a second.
    """
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    scene = features(grey)
    places: list[Place] = []
    own, there = _matched(scene, wanted)
    tries = 0
    while len(own) >= FEWEST and len(places) < MOST and tries < TRIES:
        voters = _voters(own, there, wanted.shape.shape)
        if _spots(own[voters]) < FEWEST:
            break
        matrix, agreeing = _fitted(own[:, :2], there[:, :2], voters)
        spots = _spots(own[agreeing])
        # two of them fit any two
        place = _verified(pixels, wanted, matrix, spots) if matrix is not None and spots >= FEWEST else None
        if place:
            places.append(place)
        tries += place is None
        spent = voters | agreeing if place else voters
        own, there = own[~spent], there[~spent]
    if not places and closely and (wanted.shape.min() < 230 or len(wanted.looks[0].points) < SPARSE):
        places = _correlated(pixels, wanted)
    return distinct(places)


def _matched(scene: Look, wanted: Logo) -> tuple[Points, Points]:
    """Return the points of the logo, in any of its looks, and those of the scene that are like them, (n, 4) each."""
    own, there = [np.zeros((0, 4))], [np.zeros((0, 4))]
    for look in wanted.looks:
        if min(len(look.points), len(scene.points)) < 2:
            continue
        # each feature of the scene looks for its like in the logo, so that a logo can be there more than once
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(scene.descriptors, look.descriptors, k=2)
        good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
        there.append(scene.points[[match.queryIdx for match in good]])
        own.append(look.points[[match.trainIdx for match in good]])
    return np.concatenate(own), np.concatenate(there)


def _voters(own: Points, there: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which of the matches (n, 4) agree on one place, that of most; *shape*: (rows, columns) of the logo."""
    scale, turn = there[:, 2] / own[:, 2], there[:, 3] - own[:, 3]
    away = (np.array([shape[1] / 2, shape[0] / 2]) - own[:, :2]) * scale[:, None]
    cosine, sine = np.cos(turn), np.sin(turn)
    x = there[:, 0] + cosine * away[:, 0] - sine * away[:, 1]
    y = there[:, 1] + sine * away[:, 0] + cosine * away[:, 1]
    best, most = np.zeros(len(own), bool), 0
    for i in range(min(len(own), COMPARED_AT_MOST)):
        alike = np.abs((turn - turn[i] + math.pi) % (2 * math.pi) - math.pi) < TURN
        alike &= np.abs(np.log(scale / scale[i])) < math.log(ENLARGE)
        alike &= np.hypot(x - x[i], y - y[i]) < MIDDLE * scale[i] * max(shape)
        count = _spots(own[alike]) if np.count_nonzero(alike) > most else 0
        if count > most:
            best, most = alike, count
    return best


def _spots(own: Points) -> int:
    """Return at how many places of the logo matches are: two looks may match at one, and it counts once."""
    return len(np.unique(own[:, :2].round(), axis=0))


def _fitted(own: Points, there: Points, voters: NDArray[np.bool_]) -> tuple[Points | None, NDArray[np.bool_]]:
    """Return the 3×3 matrix from the logo to the scene that most *voters* agree on, and which of all matches do."""
    none = np.zeros(len(own), bool)
    chosen, matrix = voters, np.eye(3)
    # four numbers first, which few matches fix, and once more with all that agree, their own turn and size aside;
    # then eight, where the logo is seen at a slant
    for _ in range(2):
        if np.count_nonzero(chosen) < 2:
            return None, none
        fitted: Any = cv2.estimateAffinePartial2D(
            own[chosen], there[chosen], ransacReprojThreshold=2 * WITHIN, maxIters=4000
        )
        if fitted[0] is None:
            return None, none
        matrix = np.vstack([fitted[0], [0, 0, 1]])
        chosen = np.linalg.norm(cv2.perspectiveTransform(own[None], matrix)[0] - there, axis=1) <= 2 * WITHIN
    if chosen.sum() >= 2 * FEW:
        slanted: Any = cv2.findHomography(own[chosen], there[chosen], cv2.RANSAC, WITHIN)
        bent, kept = slanted
        if bent is not None and kept.sum() >= 0.8 * chosen.sum():
            matrix = bent
    return matrix, chosen


def _verified(pixels: NDArray[np.uint8], wanted: Logo, matrix: Points, agreeing: int) -> Place | None:
    """Return the place that *matrix* lays the logo on, where the picture there is like it."""
    rows, columns = wanted.shape.shape
    frame = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float64)
    corners = cv2.perspectiveTransform(frame[None], matrix)[0]
    if not np.isfinite(corners).all() or not cv2.isContourConvex(corners.astype(np.float32)):
        return None
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    # nothing smaller can be told, and no print is seen this much at a slant
    if sides.min() < 6 or sides.max() > 6 * sides.min() * max(rows, columns) / min(rows, columns):
        return None
    alike = correlation(pixels, wanted, matrix)
    if alike < (ALIKE if agreeing >= FEW else ALIKE_FEW):
        return None
    return Place(outline(wanted, matrix), alike + (1 - alike) * (1 - math.exp(-agreeing / MANY)))


def _correlated(pixels: NDArray[np.uint8], wanted: Logo) -> list[Place]:
    """Return the places where the logo's own colours correlate with the picture, at some scale and angle."""
    scale = min(1.0, ALONE_SIDE / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    rows, columns = wanted.shape.shape
    hopeful: list[tuple[float, tuple[float, float, float, float]]] = []
    step = ALONE_LEAST / max(rows, columns)
    while step * max(rows, columns) <= max(size):
        for degrees in range(0, 360, ALONE_TURN):
            own, shape = _turned(wanted, step, degrees)
            if own.shape[0] > small.shape[0] or own.shape[1] > small.shape[1] or shape.sum() < 100:
                continue
            field = cv2.matchTemplate(small, own, cv2.TM_CCOEFF_NORMED, mask=cv2.merge([shape] * 3))
            # flat ground has no correlation
            field[~np.isfinite(field) | (abs(field) > 1.01)] = -1
            _, best, _, (x, y) = cv2.minMaxLoc(field)
            if best >= HOPEFUL:
                middle = ((x + own.shape[1] / 2) / scale, (y + own.shape[0] / 2) / scale)
                hopeful.append((best, (*middle, step / scale, math.radians(degrees))))
        step *= ALONE_STEP
    hopeful.sort(key=lambda each: -each[0])
    places = []
    for _, pose in hopeful[:CLOSELY]:
        alike, matrix = _closely(pixels, wanted, pose)
        if alike >= ALIKE_ALONE:
            places.append(Place(outline(wanted, matrix), alike))
    return places


def _pose(wanted: Logo, x: float, y: float, scale: float, angle: float) -> Points:
    """Return the 3×3 matrix that lays the logo's middle on (*x*, *y*), turned with the clock by *angle* (radians)."""
    rows, columns = wanted.shape.shape
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    to_middle = np.array([[1, 0, -columns / 2], [0, 1, -rows / 2], [0, 0, 1]])
    return np.asarray(np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]]) @ to_middle)


def _turned(wanted: Logo, scale: float, degrees: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the logo's colours (rows, columns, 3) at *scale*, turned, and where they count (0 or 1), as float32."""
    rows, columns = wanted.shape.shape
    turn = math.radians(degrees)
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    size = (math.ceil(scale * (columns * cosine + rows * sine)), math.ceil(scale * (rows * cosine + columns * sine)))
    # averaged first: turning samples
    small = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    parts = [cv2.resize(part, small, interpolation=cv2.INTER_AREA) for part in (wanted.colours, wanted.shape)]
    shrink = np.diag([columns / small[0], rows / small[1], 1.0])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    matrix = np.linalg.inv(half) @ _pose(wanted, size[0] / 2, size[1] / 2, scale, turn) @ shrink @ half
    own, shape = (cv2.warpAffine(part, matrix[:2], size, flags=cv2.INTER_LINEAR) for part in parts)
    return own.astype(np.float32), (shape > 200).astype(np.float32)


def _closely(
    pixels: NDArray[np.uint8], wanted: Logo, pose: tuple[float, float, float, float]
) -> tuple[float, NDArray[np.float64]]:
    """Return the best correlation near *pose* (x, y, scale, angle), by ever smaller steps, and its matrix."""
    best = correlation(pixels, wanted, _pose(wanted, *pose))
    stride = 0.04 * pose[2] * max(wanted.shape.shape)
    turn, grow = math.radians(ALONE_TURN / 3), 1.08
    for _ in range(16):
        x, y, scale, angle = pose
        tried = [(x + a, y + b, scale, angle) for a, b in ((stride, 0), (-stride, 0), (0, stride), (0, -stride))]
        tried += [(x, y, scale * grow, angle), (x, y, scale / grow, angle)]
        tried += [(x, y, scale, angle + turn), (x, y, scale, angle - turn)]
        alike = [correlation(pixels, wanted, _pose(wanted, *other)) for other in tried]
        if max(alike) > best:
            best, pose = max(alike), tried[alike.index(max(alike))]
        else:
            stride, turn, grow = stride / 2, turn / 2, math.sqrt(grow)
    return best, _pose(wanted, *pose)
