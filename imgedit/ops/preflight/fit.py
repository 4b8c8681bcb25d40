"""Checks of how a mask fits what it should cover: tight, shifted, something left outside, two things in one box.

What a mask covers is told from its ground by colour, the share of a colour inside against outside, and by how much
it differs from its own surroundings; both together are rare by chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.preflight.record import Box, Record, record
from imgedit.ops.preflight.view import View, quantile

Plane = NDArray[np.uint8]
Map = NDArray[np.float32]
Flags = NDArray[np.bool_]

RIM = 3000  # pixels of the rim that are looked at, at most
RIM_STEP = 16.0  # levels, across the rim
RIM_RATIO = 1.1  # times the steps farther out; masks that end on the ground stay below 0.92
REACH = 16  # pixels that a mask may be shifted by
SHIFTED = 0.08  # by how much the shape fits better elsewhere, in correlation
FITS = 0.38  # how well it must fit there
NOWHERE = 0.25  # gain from which it need not fit well
STROKES = 0.95  # share of its box; more is a box and has no shape
SLIM = 0.42  # depth of the mask against the shorter side of its box; more, in a box hardly longer, is a blob
STEPS = 20  # of each colour channel
LIKELY = 0.8  # share of a colour inside, against the ground
LIKELY_IN_BOX = 0.7
STRONG = 0.8  # of the median contrast of what is covered
LEAST = 20  # pixels, of what is covered
LEFT = 0.2  # see :func:`_left`
SPARSE = 0.2  # share of its box that a mask of text covers at least
STRIP = (12, 30)  # pixels: depth of the strips beside a line of text
SOLID = 0.85  # share of its box that a piece covers which is a box
LONG = 60  # pixels: shorter boxes hold no two things
GAP = 0.2  # share of the box between two things
APART = 0.6  # the gap against the smaller of them


def tight(view: View, where: Box) -> Iterable[Record]:
    """Yield IE113 where the picture steps at the rim of the mask, more than it does 3 to 5 pixels outside."""
    step, ratio = rim(view)
    if step > RIM_STEP and ratio > RIM_RATIO:
        yield record("IE113", where)


def rim(view: View) -> tuple[float, float]:
    """Return the mean step in levels across the rim of the mask, and its ratio to that from 3 to 5 pixels outside.

    Along the normals, from the last pixel inside to the first outside. (0, 0) where fewer than 24 pixels of the
    rim have five known pixels before them.
    """
    signed = view.away - view.depth
    rows, columns = np.nonzero((view.away > 0) & (view.away < 1.2))
    every = len(rows) // RIM + 1
    rows, columns = rows[::every], columns[::every]
    dx, dy = (cv2.Sobel(signed, cv2.CV_32F, *d)[rows, columns] for d in ((1, 0), (0, 1)))
    length = np.maximum(np.hypot(dx, dy), 1e-6)
    down, right = dy / length, dx / length
    use = np.ones(len(rows), bool)
    taken = []
    for far in (-1, 0, 3, 5):
        y, x = np.rint(rows + far * down).astype(np.intp), np.rint(columns + far * right).astype(np.intp)
        use &= (y >= 0) & (y < signed.shape[0]) & (x >= 0) & (x < signed.shape[1])
        y, x = np.clip(y, 0, signed.shape[0] - 1), np.clip(x, 0, signed.shape[1] - 1)
        use &= signed[y, x] > 0.6 * far if far >= 0 else signed[y, x] < 0  # not into the next letter
        taken.append(view.rgb[y, x].astype(np.float32))
    if np.count_nonzero(use) < 24:
        return 0.0, 0.0
    inner, outer, far_out, farther = (values[use] for values in taken)
    step = float(np.abs(inner - outer).mean())
    return step, step / (float(np.abs(far_out - farther).mean()) + 3)


def aligned(view: View, where: Box) -> Iterable[Record]:
    """Yield IE118, IE122 and IE117: the mask beside its object, some of it left outside, two in one box."""
    if not view.inside.any():  # a thin hole may be lost where the view is reduced
        return
    lab = np.asarray(cv2.cvtColor(view.rgb, cv2.COLOR_RGB2LAB), np.uint8)
    contrast = _contrast(lab)
    yield from _shifted(view, contrast, where)
    share = _share_inside(view, lab)
    if share is None:
        return
    covered = _covered(view, contrast, share)
    if covered is not None:
        left, side = _left(view, covered)
        if left > LEFT:
            yield record("IE122", where, side=side)
    yield from _two(view, contrast, share, where)


def _contrast(lab: Plane) -> Map:
    """Return how far each pixel is from the mean of the 25×25 pixels round it, in Lab."""
    distance = cv2.absdiff(lab, cv2.blur(lab, (25, 25))).astype(np.float32)
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", distance, distance)))


def _shifted(view: View, contrast: Map, where: Box) -> Iterable[Record]:
    """Yield IE118 where the shape of the mask correlates better with what stands out some pixels away."""
    x, y, width, height = cv2.boundingRect(view.inside)
    shape = np.pad(view.inside, 4)[y : y + height + 8, x : x + width + 8].astype(np.float32)
    blob = float(view.depth.max()) > SLIM * min(width, height) and min(width, height) > 0.4 * max(width, height)
    if blob or not SPARSE < np.count_nonzero(shape) / (width * height) < STROKES:
        return
    wide = cv2.copyMakeBorder(contrast, *(REACH + 4,) * 4, cv2.BORDER_REFLECT)
    part = wide[y : y + height + 8 + 2 * REACH, x : x + width + 8 + 2 * REACH]
    found = cv2.matchTemplate(part, shape, cv2.TM_CCOEFF_NORMED)
    here = float(found[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2].max())
    _, best, _, (right, down) = cv2.minMaxLoc(found)
    if best - here > NOWHERE or (best - here > SHIFTED and best > FITS):
        dx, dy = right - REACH, down - REACH
        side = ("to the right" if dx > 0 else "to the left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
        yield record("IE118", where, far=float(np.hypot(dx, dy)) * view.scale, side=side)


def _share_inside(view: View, lab: Plane) -> Map | None:
    """Return for each pixel the share of its colour inside the mask against the ground round it, 0…1."""
    ring = (view.away > 3) & (view.away < 48)
    if not ring.any():
        return None
    light = (np.arange(256) * STEPS >> 8) * STEPS**2
    # chroma is rarely far from grey: finer there
    chroma = np.clip((np.arange(256) - 128) // 6 + STEPS // 2, 0, STEPS - 1)
    index = light[lab[..., 0]] + (chroma * STEPS)[lab[..., 1]] + chroma[lab[..., 2]]
    inner, outer = _histogram(index[view.inside > 0]), _histogram(index[ring])
    return np.asarray((inner / (inner + outer + 1e-6))[index], np.float32)


def _histogram(index: NDArray[np.intp]) -> Map:
    """Return the shares of the STEPS³ colours, each spread over its neighbours."""
    cube = np.bincount(index, minlength=STEPS**3).astype(np.float32).reshape(STEPS, STEPS, STEPS)
    for axis in range(3):
        ends = np.take(cube, [0], axis), np.take(cube, [-1], axis)
        padded = np.concatenate([ends[0], cube, ends[1]], axis)
        below, above = (np.take(padded, np.arange(STEPS) + k, axis) for k in (0, 2))
        cube = np.float32(0.5) * cube + np.float32(0.25) * (below + above)
    return np.asarray(cube.ravel() / max(float(cube.sum()), 1.0))


def _covered(view: View, contrast: Map, share: Map) -> Flags | None:
    """Return the pixels, inside and outside, that look like what the mask covers; None where it covers nothing.

    Outside, what is thicker than the strokes inside is no part of them.
    """
    likely = share > LIKELY
    inside = view.inside > 0
    strength = contrast[likely & inside]
    if len(strength) < LEAST:
        return None
    found = likely & (contrast > max(STRONG * quantile(strength, 0.5), 8))
    depth = cv2.distanceTransform((found & inside).view(np.uint8), cv2.DIST_L2, 3)[found & inside]
    thick = int(2 * np.ceil(quantile(depth, 0.97) + 0.5) + 1) if len(depth) else 3
    outer = (found & ~inside).view(np.uint8)
    bodies = cv2.morphologyEx(outer, cv2.MORPH_OPEN, np.ones((thick, thick), np.uint8))
    return np.asarray(found & (cv2.dilate(bodies, np.ones((3, 3), np.uint8)) == 0))


class _Turned(NamedTuple):
    """What is covered, the hole, and the distance to it, turned so that the line of text is level."""

    covered: Flags
    inside: Plane
    away: Map


def _level(view: View, covered: Flags) -> _Turned:
    (cx, cy), (width, height), angle = cv2.minAreaRect(_ends(view.inside))
    if width < height:
        width, height, angle = height, width, angle + 90
    _, _, w, h = cv2.boundingRect(view.inside)
    if width * height > 0.8 * w * h or width < 40:
        return _Turned(covered, view.inside, view.away)
    size = (int(width + 80), int(height + 80))
    matrix: NDArray[np.float64] = cv2.getRotationMatrix2D((cx, cy), angle, 1).astype(np.float64)
    matrix[:, 2] += np.array([size[0] / 2 - cx, size[1] / 2 - cy])

    def turn(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.warpAffine(values, matrix, size, flags=cv2.INTER_NEAREST))

    return _Turned(turn(covered.view(np.uint8)) > 0, turn(view.inside), turn(view.away))


def _ends(inside: Plane) -> Map:
    """Return (n, 2) of (x, y): the first and the last pixel above 0 of each row, which have the hull of all."""
    rows = np.flatnonzero(inside.any(axis=1))
    first, last = inside[rows].argmax(axis=1), inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([first, rows], axis=1), np.stack([last, rows], axis=1)]).astype(np.float32)


def _left(view: View, covered: Flags) -> tuple[float, str]:
    """Return how much of what is covered seems left outside, and on which side.

    Of the strips beside the box of the hole, and of the gaps within it: the geometric mean of how densely what looks
    covered lies there against inside, and of its share in all of it, less twice the density farther off. 0 for masks
    too sparse to be text.
    """
    _, _, width, height = cv2.boundingRect(view.inside)
    if np.count_nonzero(view.inside) < SPARSE * width * height:
        return 0.0, ""
    found, inside, away = _level(view, covered)
    x, y, width, height = cv2.boundingRect(inside)
    ground = _elsewhere(found, away)
    total = max(int(np.count_nonzero(found & (inside > 0))), LEAST)
    density = total / (width * height)
    deep = int(np.clip(min(width, height), *STRIP))
    across, down = slice(x, x + width), slice(y, y + height)
    strips = {
        "to the left": (down, slice(max(0, x - deep), x)),
        "to the right": (down, slice(x + width, x + width + deep)),
        "above": (slice(max(0, y - deep), y), across),
        "below": (slice(y + height, y + height + deep), across),
        "between its parts": (down, across),
    }
    best = (0.0, "")
    for side, strip in strips.items():
        free = away[strip] > 1.5
        room = int(np.count_nonzero(free))
        count = np.count_nonzero(found[strip] & free) - 2 * ground * room
        if room > 40 and count > 0:
            best = max(best, (float((count / (max(room, 60) * density) * count / total) ** 0.5), side))
    return best


def _elsewhere(found: Flags, away: Map) -> float:
    """Return the density of *found* away from the hole: the upper quartile of 16 parts, as text left is in few."""
    rows, columns = found.shape
    part = (np.arange(rows) * 4 // rows)[:, None] * 4 + np.arange(columns) * 4 // columns
    far = away > 10
    room = np.bincount(part[far], minlength=16)
    count = np.bincount(part[far & found], minlength=16)
    return float(np.quantile(count[room > 100] / room[room > 100], 0.75)) if (room > 100).any() else 0.0


def _two(view: View, contrast: Map, share: Map, where: Box) -> Iterable[Record]:
    """Yield IE117 where what a box covers lies at two ends of it, with a gap between them."""
    likely = share > LIKELY_IN_BOX
    strength = contrast[likely & (view.inside > 0)]
    if len(strength) < LEAST:
        return
    found = likely & (contrast > max(0.5 * quantile(strength, 0.5), 8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(view.inside, connectivity=8)
    for x, y, width, height, area in stats[1:count].tolist():
        if area < SOLID * width * height or min(width, height) < 8 or max(width, height) < LONG:
            continue
        part = found[y : y + height, x : x + width]
        gap = max(_gap(part.sum(axis=axis)) for axis in (0, 1))
        if gap:
            yield record("IE117", where, gap=gap * view.scale)
            return


def _gap(profile: NDArray[np.intp]) -> int:
    """Return the length of the gap between two things in a profile along the box, or 0 where there are not two."""
    smooth = np.convolve(profile, np.ones(9) / 9, "same")
    full = np.flatnonzero(smooth > 0.4 * quantile(smooth, 0.9))
    if len(full) < 3:
        return 0
    gaps = np.diff(full)
    at = int(gaps.argmax())
    first, second = full[at] - full[0] + 1, full[-1] - full[at + 1] + 1
    gap = int(gaps[at])
    return gap if gap > GAP * len(profile) and gap > APART * min(first, second) else 0
