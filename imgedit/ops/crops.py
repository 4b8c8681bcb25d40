"""Cut a picture into as few crops of a model's own size as hold all of its holes, and put what comes back in place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import holes, lively
from imgedit.ops.blend import blend
from imgedit.ops.enlarge import enlarge
from imgedit.ops.holes import Hole

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

#: of the model's size, the margin takes at most this share on each side
MOST_MARGIN = 4
#: a crop that is larger than the model's size is no longer than this many times its width
LONGEST = 4
#: a hole that no crop holds is filled part by part where each of them masks less than this share of its crop
SPARSE = 1 / 4
#: detail is made stronger in crops of up to so many pixels: it is worked on in float32
DETAILED = 1 << 22
_BAND = 1 << 16


class Crop(NamedTuple):
    """A rectangle of the picture, and the size that the model sees it in.

    *box*: rows and columns of the picture; where it reaches beyond, the picture goes on as its mirror image. *rows*,
    *columns*: the size for the model, pixels. *holes*: the boxes whose pixels this crop is to fill; no two crops share
    any.
    """

    box: Hole
    rows: int
    columns: int
    holes: tuple[Hole, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the box."""
        return self.box.bottom - self.box.top, self.box.right - self.box.left

    @property
    def reduced(self) -> bool:
        """Whether the model sees it at another size than the picture's."""
        return self.shape != (self.rows, self.columns)


def plan(mask: Plane, native: int, multiple: int, margin: int) -> list[Crop]:
    """Return the crops for filling *mask* (rows, columns) > 0 by a model of *native* × *native* pixels.

    Holes that fit together into a crop of that size, with *margin* pixels of context on each side, share one. A hole
    that does not fit, a long scratch or specks all over, is filled in parts, each seen with what lies round it; where
    too much of it is masked for that, it gets a rectangle of its own, which the model sees reduced to about as many
    pixels, in *multiple* × n rows and columns. A mask over everything is one crop, the picture, which a small picture
    is enlarged for. Every pixel above 0 lies in exactly one box of one crop's holes. From top to bottom; the same mask
    gives the same crops.
    """
    native = max(native // multiple, 1) * multiple
    margin = min(margin, native // MOST_MARGIN)
    shape = mask.shape
    if mask.all():
        whole = Hole(0, 0, *shape)
        return [_sized(_broad(whole, shape), shape, native, multiple, (whole,), larger=True)]
    found = []
    parts = [part for hole in holes.find(mask, 0) for part in _parts(hole, mask, native, margin)]
    for group in _groups(parts, shape, native, margin):
        box = _around(group)
        if _fits(box, shape, native, margin):
            found.append(Crop(_square(box, shape, native), native, native, tuple(group)))
            continue
        # as much context in the model's pixels as a hole that fits has
        wide = math.ceil(margin * max(box.bottom - box.top, box.right - box.left) / native)
        box = _broad(box.grown(max(margin, wide), shape), shape)
        found.append(_sized(box, shape, native, multiple, tuple(group)))
    return found


def _parts(hole: Hole, mask: Plane, native: int, margin: int) -> list[Hole]:
    """Return *hole*; where no crop holds it and it is sparse, the boxes of what it masks in squares that one holds."""
    if _fits(hole, mask.shape, native, margin):
        return [hole]
    step = native - 2 * margin
    parts = []
    for top in range(hole.top, hole.bottom, step):
        for left in range(hole.left, hole.right, step):
            part = mask[top : min(top + step, hole.bottom), left : min(left + step, hole.right)]
            x, y, width, height = cv2.boundingRect(part)
            if np.count_nonzero(part) >= SPARSE * native**2:
                return [hole]
            if width:
                parts.append(Hole(top + y, left + x, top + y + height, left + x + width))
    return parts


def _groups(boxes: Sequence[Hole], shape: tuple[int, ...], native: int, margin: int) -> list[list[Hole]]:
    """Return *boxes* in groups that a crop holds: the first that is left, and then whatever is nearest and fits."""
    rest = np.array(boxes, np.int64).reshape(-1, 4)
    groups = []
    while len(rest):
        group, rest = [rest[0]], rest[1:]
        union = group[0]
        while len(rest):
            joint = np.concatenate([np.minimum(rest[:, :2], union[:2]), np.maximum(rest[:, 2:], union[2:])], axis=1)
            first, last = np.maximum(joint[:, :2] - margin, 0), np.minimum(joint[:, 2:] + margin, shape)
            inside = (joint == union).all(axis=1)  # in the box of one that is too large already
            fits = ((last - first) <= native).all(axis=1) | inside
            if not fits.any():
                break
            area = np.where(fits, np.prod(joint[:, 2:] - joint[:, :2], axis=1), np.iinfo(np.int64).max)
            chosen = int(area.argmin())
            union = joint[chosen]
            group.append(rest[chosen])
            rest = np.delete(rest, chosen, axis=0)
        groups.append(sorted(Hole(*box.tolist()) for box in group))
    return groups


def _around(group: Sequence[Hole]) -> Hole:
    tops, lefts, bottoms, rights = zip(*group)
    return Hole(min(tops), min(lefts), max(bottoms), max(rights))


def _fits(box: Hole, shape: tuple[int, ...], native: int, margin: int) -> bool:
    grown = box.grown(margin, shape)
    return grown.bottom - grown.top <= native and grown.right - grown.left <= native


def _square(box: Hole, shape: tuple[int, ...], native: int) -> Hole:
    """Return native × native pixels with *box* in the middle, moved into the picture as far as it goes."""
    top, bottom = _stretched(box.top, box.bottom, native, shape[0])
    left, right = _stretched(box.left, box.right, native, shape[1])
    return Hole(top, left, bottom, right)


def _broad(box: Hole, shape: tuple[int, ...]) -> Hole:
    """Return *box*, made wider where it is too long for its width."""
    least = math.ceil(max(box.bottom - box.top, box.right - box.left) / LONGEST)
    top, bottom = _stretched(box.top, box.bottom, least, shape[0])
    left, right = _stretched(box.left, box.right, least, shape[1])
    return Hole(top, left, bottom, right)


def _stretched(start: int, stop: int, length: int, size: int) -> tuple[int, int]:
    """Return start and stop of at least *length*: to both sides alike, within *size* if that is possible."""
    more = length - (stop - start)
    if more <= 0:
        return start, stop
    start -= more // 2
    stop = start + length
    start = min(max(start, 0), size - length) if length <= size else -((length - size) // 2)
    return start, start + length


def _sized(
    box: Hole, shape: tuple[int, ...], native: int, multiple: int, own: tuple[Hole, ...], *, larger: bool = False
) -> Crop:
    """Return the crop of *box* with about native² pixels for the model; a small one as it is, unless *larger*."""
    rows, columns = box.bottom - box.top, box.right - box.left
    scale = native / math.sqrt(rows * columns)
    if scale < 1 or larger:
        rows, columns = (max(int(side * scale) // multiple, 1) * multiple for side in (rows, columns))
        return Crop(box, rows, columns, own)
    rows, columns = (-(-side // multiple) * multiple for side in (rows, columns))
    top, bottom = _stretched(box.top, box.bottom, rows, shape[0])
    left, right = _stretched(box.left, box.right, columns, shape[1])
    return Crop(Hole(top, left, bottom, right), rows, columns, own)


def cut(array: Pixels, crop: Crop) -> Pixels:
    """Return what *crop* shows of *array* (rows, columns[, 3]), at the picture's size, mirrored beyond its edges.

    What is cut from within the picture is a view of it.
    """
    box = crop.box
    if box.top >= 0 and box.left >= 0 and box.bottom <= array.shape[0] and box.right <= array.shape[1]:
        return array[box.slices]
    rows = _mirrored(box.top, box.bottom, array.shape[0])
    return array[rows[:, None], _mirrored(box.left, box.right, array.shape[1])]


def _mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    places = np.arange(start, stop) % (2 * size)
    return np.where(places < size, places, 2 * size - 1 - places)


def for_model(pixels: Pixels, crop: Crop) -> Pixels:
    """Return *pixels*, cut by :func:`cut`, in the model's size, same dtype: by area where that is smaller."""
    if not crop.reduced:
        return np.ascontiguousarray(pixels)  # lets go of the picture that it is a view of
    smaller = crop.rows * crop.columns < pixels.shape[0] * pixels.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (crop.columns, crop.rows), interpolation=way))


def mask_for_model(mask: Plane, crop: Crop) -> Plane:
    """Return *mask*, cut by :func:`cut`, in the model's size: above 0 wherever a pixel above 0 has any part in."""
    if not crop.reduced:
        return mask
    rows, columns = mask.shape
    # a pixel that lies across two of the model's counts in both
    wide = np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), np.uint8)
    if crop.rows <= rows and crop.columns <= columns:
        wide = np.maximum.reduceat(wide, np.arange(crop.rows) * rows // crop.rows, axis=0)
        return np.asarray(np.maximum.reduceat(wide, np.arange(crop.columns) * columns // crop.columns, axis=1))
    return np.asarray(cv2.resize(wide, (crop.columns, crop.rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def from_model(values: NDArray[np.float32], crop: Crop, dtype: np.dtype[Any]) -> Pixels:
    """Return a model's result (rows, columns, 3), 0…1, at the picture's size as *dtype*: uint8 or uint16."""
    full = np.float32(np.iinfo(dtype).max)
    pixels: Pixels = np.rint(np.clip(values, 0, 1) * full).astype(dtype)
    if not crop.reduced:
        return pixels
    rows, columns = crop.shape
    if rows >= crop.rows and columns >= crop.columns:
        result = np.empty((rows, columns, 3), dtype)
        enlarge(pixels, result, 0.0)
        return result
    return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA))


def finished(known: Pixels, fill: Pixels, mask: Plane, *, detail: bool, grey: bool) -> Pixels:
    """Return *fill* where *mask* > 0 and *known* elsewhere, without the step along the edge of the hole.

    *known*, *fill*: (rows, columns, 3), both uint8 or both uint16. *detail*: bring the fill's detail up to that of its
    surroundings first, as far as its own goes. *grey*: the fill's luma alone.
    """
    if grey:
        fill = np.asarray(cv2.cvtColor(fill, cv2.COLOR_RGB2GRAY))[..., None].repeat(3, axis=2)
    fill = np.where(mask[..., None] > 0, fill, known)
    if detail and mask.size <= DETAILED:
        most = np.iinfo(fill.dtype).max
        level = np.float32(most / 255)
        stronger = lively.sharpened(fill.astype(np.float32) / level, mask) * level
        fill = np.where(mask[..., None] > 0, np.rint(np.clip(stronger, 0, most)).astype(fill.dtype), known)
    return blend(known, fill, mask)


def is_grey(pixels: Pixels, mask: Plane) -> bool:
    """Tell whether there are pixels outside *mask* > 0, and all of them are grey. A coloured one is found soon."""
    some = False
    height = max(_BAND // pixels.shape[1], 1)
    for top in range(0, len(pixels), height):
        band = pixels[top : top + height]
        outside = mask[top : top + height] == 0
        some |= bool(outside.any())
        if ((band[..., 1:] != band[..., :1]).any(axis=2) & outside).any():
            return False
    return some
