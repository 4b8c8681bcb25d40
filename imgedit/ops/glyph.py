"""The strokes of letters inside a box: learned ones, or what stands out from its ground in the colours of the text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import inks, masks, regions, rims
from imgedit.ops.strokes import HEIGHT, parted

Plane = NDArray[np.uint8]
#: (rows, columns, 3) uint8 crop and convex polygon in it → (rows, columns) float32, how likely strokes are: 0…1
Finder = Callable[[Plane, regions.Points], NDArray[np.float32]]

#: the box is compared with ground up to this far from it, share of the line's height
GROUND = 0.6
#: colours are counted in this many steps per Lab channel
STEPS = 24
#: a pixel is text if its colour is this much likelier in the strokes than in the ground (share of both)
LIKELY, POSSIBLE = 0.85, 0.5
#: strokes, and the rims that touch them, stand out by these shares of the level that parts text from ground
STRONG, FAINT = 0.5, 0.35
#: pieces that do not reach into the box by this share of the line's height are ground
REACH = 0.2
#: times that the colours of the text are counted
ROUNDS = 5
#: least step from the ground that can be a stroke, in CIELAB units
FAINTEST = 6.0
#: gaps within strokes that are closed, share of the line's height
CLOSED = 0.03
#: strokes outside these shares of the box are no strokes
COVERAGE = (0.03, 0.7)
#: where text and ground have this much of their colours in common, edges decide, and alone from the second share on;
#: counted in steps per channel
ALIKE, SAME, COARSE = 0.3, 0.6, 12
#: height of a line that edges are searched at, pixels
INK_HEIGHT = 32.0
#: outline and shadow reach this far from strokes, share of the line's height
RIM = 0.1
#: where less than this share of what colours found is near what edges found, the two disagree
AGREED = 0.5
#: and from this share on, of both, they found the same
EQUAL = 0.9
#: strokes that are learned are taken where they let expect this IoU with the true ones
SURE = 0.4
#: letters are hard to see where they let expect less than this; of lines lower than this, pixels, that does no harm
SEEN, TALL = 0.6, 40.0
#: large letters and their glow fade into the ground over more pixels: this share of the line's height, at most so many
FADING, FADED = 0.03, 4
#: longer crops are searched reduced to this, pixels
LONGEST = 1600
#: letters stand along at least this share of the line
SPREAD = 0.55
#: colours are believed alone where they stand along this share of it
EVERYWHERE = 0.85


class Fitted(NamedTuple):
    """Strokes of one box. *place*: (x, y, width, height) in the picture; *mask*: 255 on strokes; *why*: if unsure.

    *hard*: height of letters that are large and so hard to see that much of it may be ground, pixels; else 0.
    """

    place: tuple[int, int, int, int]
    mask: Plane
    why: str
    hard: float = 0.0


def fit(
    pixels: NDArray[Any], polygon: regions.Points, finder: Finder | None = None, known: Plane | None = None
) -> Fitted:
    """Return the strokes of the text in a convex *polygon* of (rows, columns, 3) uint8 or uint16 *pixels*.

    Light, dark, coloured and semi-transparent letters, with outline and shadow. Where *finder* is sure they are its
    strokes; without it, or where it is not, those of *known*, (rows, columns) uint8 of the picture, if it has any
    there, else what colours and edges tell. Where they cannot be told from their ground, *why* says so and the mask is
    empty: then the polygon itself is the better mask.
    """
    rows, columns = pixels.shape[:2]
    height = regions.line(polygon)[1]
    x, y, width, tall = regions.bounds(polygon, math.ceil(GROUND * height) + 2, rows, columns)
    if not (width and tall):
        return Fitted((x, y, 0, 0), np.zeros((0, 0), np.uint8), "it lies outside the picture")
    # letters as large as a poster's are as well seen smaller, and memory stays bounded
    crop = regions.searchable(pixels[y : y + tall, x : x + width], LONGEST)
    scale = (crop.shape[1] / width, crop.shape[0] / tall)
    height *= max(scale)
    local = (polygon - (x, y)) * scale
    inside = np.zeros(crop.shape[:2], np.uint8)
    masks.draw(inside, local)
    if not inside.any():
        return Fitted((x, y, width, tall), np.zeros((tall, width), np.uint8), "it holds no pixel")
    learned, expected = _learned(crop, inside, local, finder) if finder else (None, 1.0)
    full = height / max(scale)
    hard = full if expected < SEEN and full >= TALL else 0.0
    if not learned and known is not None:
        there, own = known[y : y + tall, x : x + width], np.zeros((tall, width), np.uint8)
        masks.draw(own, polygon - (x, y))
        if (there & own).any():  # and not only on the ground beside it
            return Fitted((x, y, width, tall), there, "")
    if learned:
        (strokes, fading), why = learned, ""
    else:
        (strokes, why), fading = _found(crop, inside, local, height), FADING * height
    if strokes.shape != (tall, width):
        # whatever a stroke touches at full size
        larger = cv2.resize(strokes, (width, tall), interpolation=cv2.INTER_LINEAR)
        strokes = (larger > 0).view(np.uint8) * np.uint8(255)
    grown = masks.dilate(strokes, min(int(fading / max(scale)), FADED))
    return Fitted((x, y, width, tall), grown if not why else np.zeros_like(strokes), why, hard)


def _learned(
    crop: Plane, inside: Plane, local: regions.Points, finder: Finder
) -> tuple[tuple[Plane, float] | None, float]:
    """Return the strokes that *finder* is sure of, and how far they fade, pixels; None where it is not sure.

    And the IoU with the true ones that it lets expect.
    """
    # what lies beyond the picture, however far, is not looked at
    seen = regions.clip(local, *crop.shape[:2])
    if len(seen) < 3:
        return None, 1.0
    found, expected = parted(finder(crop, seen), inside, regions.line(seen)[1])
    if expected < SURE or not found.any():
        return None, expected
    rows, columns = np.nonzero(found)
    box = cv2.boxPoints(cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32)))
    # what is shown reduced is known to half a pixel of what is shown
    return (found, 0.5 * (regions.line(box.astype(np.float64))[1] / HEIGHT - 1)), expected


def draw(
    mask: Plane,
    pixels: NDArray[Any],
    polygon: regions.Points,
    finder: Finder | None = None,
    known: Plane | None = None,
) -> str:
    """Set the strokes in a convex *polygon* to 255, in place; where none are sure, all of it: then return why."""
    fitted = fit(pixels, polygon, finder, known)
    put(mask, polygon, fitted)
    return fitted.why


def put(mask: Plane, polygon: regions.Points, fitted: Fitted) -> None:
    """Set what was *fitted* to a *polygon* to 255, in place; where no strokes are sure, all of it."""
    if fitted.why:
        masks.draw_covering(mask, polygon)
    else:
        x, y, width, height = fitted.place
        mask[y : y + height, x : x + width] |= fitted.mask


def _found(crop: NDArray[np.uint8], inside: Plane, local: regions.Points, height: float) -> tuple[Plane, str]:
    """Return the strokes in *inside*, and why there are none that are sure."""
    strokes, why = _strokes(crop, inside, height)
    why = why or _doubt(strokes, inside, local)
    alike = 1.0 if why else _overlap(crop, strokes)
    if alike < ALIKE and inks.spread(strokes, local) >= EVERYWHERE:
        return _whole(crop, strokes, inside, height), ""
    # the ground has the colours of the text: then its edges must tell
    ink, opaque = _ink(crop, inside, local, height)
    doubt = _doubt(ink, inside, local)
    if doubt:
        return strokes, why
    if why:
        return ink, ""
    reach = max(1, round(RIM * height))
    both, back = strokes & masks.dilate(ink, reach), ink & masks.dilate(strokes, reach)
    if all(np.count_nonzero(part) >= EQUAL * np.count_nonzero(of) for part, of in ((both, strokes), (back, ink))):
        # they found the same, and colours draw it sharper
        return _whole(crop, strokes, inside, height), ""
    if np.count_nonzero(both) >= AGREED * np.count_nonzero(strokes):
        return _whole(crop, ink | both, inside, height) if opaque else ink, ""
    # they disagree: colours that the ground has as well are not believed, else what both say is text is text
    return ink if alike > SAME else strokes | ink, ""


def _whole(crop: NDArray[np.uint8], strokes: Plane, inside: Plane, height: float) -> Plane:
    return rims.shadow(crop, rims.follow(crop, strokes, inside, height), height)


def _ink(crop: NDArray[np.uint8], inside: Plane, local: regions.Points, height: float) -> tuple[Plane, bool]:
    """Return the strokes of the overlay that explains most of the edges in *inside*, and whether it is opaque."""
    scale = min(1.0, INK_HEIGHT / max(height, 1.0))
    rows, columns = crop.shape[:2]
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small, within = crop, inside
    if scale < 1:
        small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
        within = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    found = inks.best(small, within > 0, local * (size[0] / columns, size[1] / rows)) if within.any() else None
    if found is None:
        return np.zeros_like(inside), False
    soft = found.soft
    if scale < 1:
        soft = np.asarray(cv2.resize(soft, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    strokes = (soft > 0.5).view(np.uint8) * np.uint8(255)
    return masks.remove_specks(strokes, max(2, round(0.004 * height * height))), found.overlay.opacity >= inks.OPAQUE


def _overlap(crop: NDArray[np.uint8], strokes: Plane) -> float:
    """Return how alike the colours of *strokes* and of what is not near them are (Bhattacharyya, 1943): 0…1."""
    levels = (crop.astype(np.uint16) * COARSE) >> 8
    index = (levels[..., 0] * COARSE + levels[..., 1]) * COARSE + levels[..., 2]
    text: NDArray[Any] = np.bincount(index[strokes > 0], minlength=COARSE**3)
    ground: NDArray[Any] = np.bincount(index[masks.dilate(strokes, 2) == 0], minlength=COARSE**3)
    common = float(np.sqrt(text.astype(np.float64) * ground).sum())
    return common / math.sqrt(max(float(text.sum()) * float(ground.sum()), 1.0))


def _strokes(crop: NDArray[np.uint8], searched: Plane, height: float) -> tuple[Plane, str]:
    lab = np.asarray(cv2.cvtColor(crop.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab), np.float32)
    within: NDArray[Any] = searched > 0
    step = _step(crop, lab, height)
    level = max(_otsu(step[within]), FAINTEST)
    seeds = within & (step >= level)
    if not seeds.any():
        return np.zeros_like(searched), "nothing stands out from the ground"
    likely = _likeliness(lab, seeds, ~within | (step < STRONG * level))
    core = within & (step >= STRONG * level) & (likely >= LIKELY)
    # rims and shadows are fainter than the strokes and touch them
    reach = max(1, round(0.08 * height))
    rim = masks.dilate(core.view(np.uint8) * np.uint8(255), reach) > 0
    faint = within & rim & (step >= FAINT * level) & (likely >= POSSIBLE)
    strokes = (core | faint).view(np.uint8) * np.uint8(255)
    # between a light letter and its dark outline lies a rim that has the colour of neither
    strokes = masks.close(strokes, max(1, round(CLOSED * height)))
    strokes = masks.remove_specks(strokes, max(2, round(0.004 * height * height)))
    return _reaching(strokes, searched, height), ""


def _reaching(strokes: Plane, searched: Plane, height: float) -> Plane:
    """Return the pieces of *strokes* that do not lie along the edge of the box alone."""
    inner = cv2.distanceTransform(np.pad(searched, 1), cv2.DIST_L2, 3)[1:-1, 1:-1] > REACH * height
    count, labels = cv2.connectedComponents(strokes, connectivity=8)
    reaching = np.zeros(count, bool)
    reaching[np.unique(labels[inner])] = True
    reaching[0] = False
    return np.asarray(reaching[labels].view(np.uint8) * np.uint8(255))


def _step(crop: NDArray[np.uint8], lab: NDArray[Any], height: float) -> NDArray[np.float32]:
    """Return how far each pixel is from its ground: the median of a window wider than strokes (CIELAB units)."""
    window = min(2 * round(0.4 * height) + 1, 255)
    ground = cv2.medianBlur(np.ascontiguousarray(crop), max(window, 3))
    ground_lab = cv2.cvtColor(ground.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    return np.asarray(np.sqrt(((lab - ground_lab) ** 2).sum(axis=2)), np.float32)


def _otsu(values: NDArray[np.float32]) -> float:
    """Return the threshold that parts *values* best in two (Otsu, 1979)."""
    top = max(float(values.max()), 1e-3)
    scaled = np.minimum(values * (255 / top), 255).astype(np.uint8)
    return float(cv2.threshold(scaled.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)[0]) * top / 255


def _likeliness(lab: NDArray[np.float32], text: NDArray[np.bool_], ground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return for each pixel the share of its colour in *text* against *ground* (0…1), from smoothed histograms.

    Done anew with what is likely text counting most: what else stands out has colours that the ground has too.
    """
    # L is 0…100, a and b about -128…127
    low: NDArray[Any] = np.array([0, -128, -128], np.float32)
    steps: NDArray[Any] = np.array([STEPS / 100, STEPS / 255, STEPS / 255], np.float32)
    index = np.clip((lab - low) * steps, 0, STEPS - 1).astype(np.intp)
    flat = (index[..., 0] * STEPS + index[..., 1]) * STEPS + index[..., 2]
    of_ground = _histogram(flat[ground], np.ones(np.count_nonzero(ground)))
    of_text = flat[text]
    weights = np.ones(len(of_text))
    share = np.zeros(STEPS**3)
    for _ in range(ROUNDS):
        counted = _histogram(of_text, weights)
        share = counted / (counted + of_ground + 1e-9)
        weights = share[of_text] ** 2
    return np.asarray(share[flat], np.float32)


def _histogram(index: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares (sum 1) of the STEPS³ colours, each spread over its neighbours."""
    cube = np.bincount(index, weights, STEPS**3).reshape(STEPS, STEPS, STEPS)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        below, here, above = (np.take(padded, np.arange(STEPS) + k, axis=axis) for k in range(3))
        cube = 0.25 * below + 0.5 * here + 0.25 * above
    shares: NDArray[np.float64] = cube.ravel() / max(float(cube.sum()), 1e-9)
    return shares


def _doubt(strokes: Plane, inside: Plane, polygon: regions.Points) -> str:
    """Return why these cannot be letters, or nothing."""
    share = float(np.count_nonzero(strokes[inside > 0])) / max(int(np.count_nonzero(inside)), 1)
    if not COVERAGE[0] <= share <= COVERAGE[1]:
        return f"strokes would cover {share:.0%} of the box"
    along = inks.spread(strokes, polygon)
    return "" if along >= SPREAD else f"strokes stand along {along:.0%} of the box only"
