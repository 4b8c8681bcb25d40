"""Strokes of letters as a small network sees them: the box laid straight and brought to one height.

The network itself is handed in as a function, so that nothing here knows what runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import masks, regions

Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]
#: (1, CHANNELS, rows, columns) float32 → (1, 1, rows, columns): how likely each pixel is a stroke, 0…1
Network = Callable[[Floats], Floats]

#: boxes are shown at this height, pixels, but enlarged at most by this
HEIGHT, ENLARGED = 48.0, 2.0
#: where boxes are higher than this, pixels, the picture is reduced first: its texture then is as in training
LARGEST = 128.0
#: ground shown round the box, pixels of what is shown
MARGIN = 12
#: rows and columns of what the network is given are multiples of this
MULTIPLE = 8
#: planes that it is given for each pixel
CHANNELS = 8
#: no pixel of its result depends on anything further away, pixels: the overlap of tiles
REACH = 112
#: columns of a tile without its overlap
TILE = 768
#: what is finer than this, pixels of what is shown, is given once more with its contrast brought to one
FINE = 10.0
#: a stroke is what is likelier than this times the cube of how likely strokes nearby are: half where these are sure,
#: next to nothing where letters are hard to see; in a window of this share of the box's height
ENOUGH, NEARBY = 0.85, 0.5
#: what is less likely is ground, wherever it is
LEAST = 0.03
#: the box of the strokes themselves is looked at where it is lower than this share of the first; it has this margin,
#: share of its height, and this one more at its ends; and this share of what is likely may be beyond each of its sides
LOWER, AROUND, BEYOND, STRAY = 0.9, 0.15, 0.5, 0.01
#: fewer pixels of strokes have no box of their own
FEWEST = 30
#: the strokes say how a box lies where they vary this much more along it than across, by at most this angle
LONG, TURNED = 6.0, math.radians(25)


class Straight(NamedTuple):
    """A box laid straight. *planes*: (rows, columns, 5) uint8: RGB, texture, and 255 inside the box.

    *matrix*: 2 × 3, from pixels of the crop to those here, for OpenCV; *area*: (columns, rows) that are not padding.
    """

    planes: Plane
    matrix: NDArray[np.float64]
    area: tuple[int, int]


def straight(crop: Plane, polygon: regions.Points) -> Straight:
    """Return the box round a convex *polygon* of a (rows, columns, 3) uint8 *crop*, its longer side to the right."""
    along, height = regions.line(polygon)
    # the same way up wherever that can be told
    along = (along + math.pi / 2) % math.pi - math.pi / 2
    scale = min(HEIGHT / max(height, 1.0), ENLARGED)
    parts = [crop, np.dstack([_texture(crop), _drawn(polygon, crop.shape[:2])])]
    reduced = np.ones(2)
    if scale < 1:
        # reduced first, each pixel the mean of those that it stands for; then only turned
        rows, columns = crop.shape[:2]
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        parts = [np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA)) for part in parts]
        reduced = np.array(size) / (columns, rows)
    linear = scale * _axes(along)
    turned = polygon @ linear.T
    low, high = turned.min(axis=0) - MARGIN, turned.max(axis=0) + MARGIN
    area = (math.ceil(high[0] - low[0]), math.ceil(high[1] - low[1]))
    columns, rows = (-(-side // MULTIPLE) * MULTIPLE for side in area)
    # pixel centres lie half a pixel from the corner of the picture
    matrix, seen = (np.column_stack([m, m @ (0.5, 0.5) - low - 0.5]) for m in (linear, linear / reduced))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    laid = [cv2.warpAffine(p, seen, (columns, rows), flags=way, borderMode=cv2.BORDER_REPLICATE) for p in parts]
    return Straight(np.dstack(laid), matrix, area)


def _drawn(polygon: regions.Points, shape: tuple[int, ...]) -> Plane:
    inside = masks.empty(*shape[:2])
    masks.draw_covering(inside, polygon)
    return inside


def _texture(crop: Plane) -> Plane:
    """Return how rough the picture is at each pixel: 32 for each doubling of the mean step to its neighbours."""
    levels = cv2.blur(cv2.morphologyEx(crop, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)).astype(np.float32), (2, 2))
    return np.asarray(np.rint(32 * np.log2(1 + levels.mean(axis=2))), np.uint8)


def given(planes: Plane) -> Floats:
    """Return what the network is given for (rows, columns, 5) *planes*: (CHANNELS, rows, columns).

    The colours against their mean; their fine detail against its deviation, so that faint text looks like any other;
    the texture; and where the box is.
    """
    colours = planes[..., :3].astype(np.float32)
    fine = colours - cv2.GaussianBlur(colours, (0, 0), FINE)
    rest = planes[..., 3:].astype(np.float32) / np.float32(128) - 1
    parts = [
        (colours - colours.mean(axis=(0, 1))) / np.float32(64),
        fine / np.float32(float(np.sqrt((fine**2).mean())) + 2),
        rest,
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=2).transpose(2, 0, 1))


def likely(crop: Plane, polygon: regions.Points, network: Network) -> Floats:
    """Return for each pixel of a (rows, columns, 3) uint8 *crop* how likely it is a stroke of the text in *polygon*.

    (rows, columns) float32 of 0…1; 0 away from the box. Where the strokes fill little of the height, the network looks
    a second time, at the part that they fill.
    """
    height = regions.line(polygon)[1]
    if height <= LARGEST:
        return _looked(crop, polygon, network)
    rows, columns = crop.shape[:2]
    size = (max(1, round(columns * LARGEST / height)), max(1, round(rows * LARGEST / height)))
    reduced = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    seen = _looked(reduced, polygon * (size[0] / columns, size[1] / rows), network)
    return np.asarray(cv2.resize(seen, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def _looked(crop: Plane, polygon: regions.Points, network: Network) -> Floats:
    """Return what the network says, after a second look where there is one."""
    first = _seen(crop, polygon, network)
    closer = _closer(first, polygon)
    if closer is None:
        return first
    # what the second look is not shown, and the first took for a stroke, is ground
    second = _seen(crop, closer, network)
    return np.where(_drawn(closer, crop.shape) > 0, second, np.minimum(first, second))


def parted(likely: Floats, inside: Plane, height: float) -> tuple[Plane, float]:
    """Return the strokes among what is *likely*, 255 on strokes, and the IoU with the true ones that it lets expect.

    *inside*: (rows, columns) uint8, 255 in the box; *height*: of the box, pixels. Strokes go on out of the box; what is
    outside alone is other text. Where letters are hard to see all is less likely, and less is enough to be a stroke.
    """
    heard = np.where(likely > LEAST, likely, np.float32(0))
    window = (2 * round(NEARBY * height / 2) + 1,) * 2
    about, total = (cv2.blur(part, window, borderType=cv2.BORDER_CONSTANT) for part in (heard * heard, heard))
    level = np.clip(ENOUGH * (about / np.maximum(total, np.float32(1e-4))) ** 3, LEAST, 0.5)
    strokes = (likely > level).view(np.uint8)
    count, labels = cv2.connectedComponents(strokes, connectivity=8)
    meets = np.zeros(count, bool)
    meets[np.unique(labels[(inside > 0) & (strokes > 0)])] = True
    meets[0] = False
    kept, within = meets[labels], inside > 0
    taken, left = likely[kept & within], likely[within & ~kept]
    expected = float(taken.sum()) / max(taken.size + float(left.sum()), 1e-6)
    return np.asarray(kept.view(np.uint8) * np.uint8(255)), expected


def _seen(crop: Plane, polygon: regions.Points, network: Network) -> Floats:
    """Return what the network says of the box, at its place in the crop."""
    laid = straight(crop, polygon)
    planes = given(laid.planes)
    # a stroke is what is one the right way up or upside down: what the network misses differs, and is more than it adds
    turned = _tiled(np.ascontiguousarray(planes[:, ::-1, ::-1]), network)[::-1, ::-1]
    seen = np.clip(np.maximum(_tiled(planes, network), turned), 0, 1)
    columns, rows = laid.area
    size = (crop.shape[1], crop.shape[0])
    # each pixel of the crop is looked up in what was seen
    back = cv2.warpAffine(seen[:rows, :columns], laid.matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(back, np.float32)


def _closer(likely: Floats, polygon: regions.Points) -> regions.Points | None:
    """Return the box of the strokes themselves where it is lower than *polygon*; None where it is not."""
    rows, columns = np.nonzero((likely > 0.5) & (_drawn(polygon, likely.shape) > 0))
    if len(rows) < FEWEST:
        return None
    weights = likely[rows, columns].astype(np.float64)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1)
    along, height = regions.line(polygon)
    axes = _axes(along)
    spread = np.cov((points @ axes.T).T, aweights=weights)
    turn = 0.5 * math.atan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1])
    # a long line says how it lies; boxes of short ones are nearer the truth
    if spread[0, 0] > LONG * spread[1, 1] and abs(turn) < TURNED:
        axes = _axes(along + turn)
    places = points @ axes.T
    low, high = (np.array([_quantile(places[:, k], weights, share) for k in (0, 1)]) for share in (STRAY, 1 - STRAY))
    tall = high[1] - low[1]
    low, high = low - AROUND * tall - 1, high + AROUND * tall + 1
    # the first and the last letter may be those that are hard to see: along the line only what is far off is left out
    ends = (polygon @ axes.T)[:, 0]
    low[0] = max(low[0] - BEYOND * tall, min(low[0], ends.min()))
    high[0] = min(high[0] + BEYOND * tall, max(high[0], ends.max()))
    if high[1] - low[1] >= LOWER * height:
        return None
    box = np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]) @ axes
    box = regions.clip(box, *likely.shape)
    return box if len(box) > 2 else None


def _axes(along: float) -> NDArray[np.float64]:
    """Return the directions along a line and across it, as rows."""
    cosine, sine = math.cos(along), math.sin(along)
    return np.array([[cosine, sine], [-sine, cosine]])


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order[min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)]])


def _tiled(planes: Floats, network: Network) -> Floats:
    """Return the network's result on (CHANNELS, rows, columns) *planes*, in tiles of TILE columns."""
    columns = planes.shape[2]
    if columns <= TILE + 2 * REACH:
        return np.asarray(network(planes[None])[0, 0])
    parts = []
    for left in range(0, columns, TILE):
        start, end = max(left - REACH, 0), min(left + TILE + REACH, columns)
        part = network(np.ascontiguousarray(planes[None, :, :, start:end]))[0, 0]
        parts.append(part[:, left - start : min(left + TILE, columns) - start])
    return np.concatenate(parts, axis=1)
