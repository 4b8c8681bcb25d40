"""Checks of a mask by itself: how much it covers, its pieces, its outline, and how much is known round it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.holes import Hole
from imgedit.ops.preflight.record import Box, Record, percent, record
from imgedit.ops.preflight.view import View

Plane = NDArray[np.uint8]

TOO_MUCH = 0.75
MUCH = 0.3
CELL = 16  # pixels: pieces of the mask less than two cells apart are one hole
SPECK = 20  # pixels of a piece that lies apart
DUST = 8  # pixels of a piece beside others
FEW = 2  # pieces of dust that may be meant
LARGE = 120  # pixels: of a piece that is no speck
SPECKS_LOOKED_AT = 2000
THIN = 8  # pixels: one cell of a latent grid
CONTEXT = (8, 256)  # pixels: least and most that is looked at round a hole
LITTLE = 0.3  # share of the pixels round a hole that are known
SAMPLES = 512  # of them along each axis
HAIR = 10  # pixels: length of a line that an opening by 3×3 takes away
HAIRY = 0.3  # share of the mask that it takes away
LINE = 4  # pixels: what is shorter is a speck and no line
ROUGH = 0.2  # pixels that a median of 3×3 changes, per pixel of outline
BLOCKS = range(3, 8)  # pixels; 8 and multiples are a latent grid
STEPS = (3, 10)  # places of edges along each axis and in all, from which on a common divisor is no chance


class Group(NamedTuple):
    """Pieces of a mask that lie together: the box round them, and how many cells they touch."""

    box: Hole
    cells: int

    @property
    def where(self) -> Box:
        return self.box.where


def coverage(mask: Plane, share: float) -> Iterable[Record]:
    """Yield what the masked *share* of the picture says."""
    of_picture = f"{percent(share)} of the picture"
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    # text is a small part away from the border; its inverse is the opposite in both
    if share > 0.5 and np.count_nonzero(edges) > 0.9 * len(edges) and min(mask.shape) > 2:
        yield record("IE103", share=of_picture)
    elif share > TOO_MUCH:
        yield record("IE104", share=of_picture)
    elif share > MUCH:
        yield record("IE105", share=of_picture)


def groups(mask: Plane) -> list[Group]:
    """Return the pieces of *mask* (rows, columns) above 0, those less than two cells apart as one.

    Boxes are tight where they are small enough to matter; time follows the number of pixels once, and hardly that
    of pieces.
    """
    cells = _cells(mask)
    near = cv2.dilate(cells, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    touched = np.bincount(labels[cells > 0], minlength=count)
    rows, columns = mask.shape
    found = []
    for label in range(1, count):
        left, top, width, height = (int(v) for v in stats[label, :4])
        box = Hole(top * CELL, left * CELL, min((top + height) * CELL, rows), min((left + width) * CELL, columns))
        if label <= SPECKS_LOOKED_AT or touched[label] > 4:
            x, y, w, h = cv2.boundingRect(mask[box.slices])
            box = Hole(box.top + y, box.left + x, box.top + y + h, box.left + x + w)
        found.append(Group(box, int(touched[label])))
    return found


def _cells(mask: Plane) -> Plane:
    """Return 1 for each cell that holds any pixel above 0, else 0: ⌈rows / CELL⌉ × ⌈columns / CELL⌉."""
    rows, columns = mask.shape
    if columns % CELL or not mask.flags.c_contiguous:
        padded = np.zeros((rows, -(-columns // CELL) * CELL), np.uint8)
        padded[:, :columns] = mask
        mask = padded
    words = mask.view(np.uint64)  # eight pixels at once
    whole = rows // CELL
    lines = np.bitwise_or.reduce(words[: whole * CELL].reshape(whole, CELL, words.shape[1]), axis=1)
    if rows % CELL:
        lines = np.concatenate([lines, np.bitwise_or.reduce(words[whole * CELL :], axis=0)[None]])
    return np.asarray(lines.reshape(len(lines), words.shape[1] // 2, 2).max(axis=2) > 0).view(np.uint8)


def specks(mask: Plane, found: Sequence[Group]) -> Iterable[Record]:
    """Yield IE106 for pieces of a few pixels that lie apart from larger ones."""
    # where all is small, dust is what was meant
    if not any(_pixels(mask, group) >= LARGE for group in sorted(found, key=lambda group: -group.cells)[:4]):
        return
    lone = [g for g in found[:SPECKS_LOOKED_AT] if g.cells <= 4 and _pixels(mask, g) <= SPECK]
    if lone:
        yield record("IE106", lone[0].where, count=len(lone))


def _pixels(mask: Plane, group: Group) -> int:
    return cv2.countNonZero(mask[group.box.slices])


def border(mask: Plane, found: Sequence[Group]) -> Iterable[Record]:
    """Yield IE108 for the first hole at the edge of the picture."""
    rows, columns = mask.shape
    for group in found:
        box = group.box
        if box.top == 0 or box.left == 0 or box.bottom == rows or box.right == columns:
            yield record("IE108", group.where)
            return


def context(mask: Plane, group: Group) -> Iterable[Record]:
    """Yield IE109 where little of what should surround the hole is in the picture and unmasked."""
    rows, columns = group.box.bottom - group.box.top, group.box.right - group.box.left
    margin = int(np.clip(min(rows, columns) // 2, *CONTEXT))
    around = group.box.grown(margin, mask.shape)
    step = max(1, max(around.bottom - around.top, around.right - around.left) // SAMPLES)
    part = np.ascontiguousarray(mask[around.slices][::step, ::step])
    masked = cv2.countNonZero(part) * step**2
    wanted = (rows + 2 * margin) * (columns + 2 * margin) - masked
    known = part.size * step**2 - masked
    if known < LITTLE * wanted:
        yield record("IE109", group.where, share=percent(max(known / wanted, 0)))


def outline(view: View, where: Box, grid: int | None) -> Iterable[Record]:
    """Yield what the shape of a hole says: thin strokes, hairlines, a jagged edge, dust beside it."""
    inside = view.inside
    if not inside.any():
        return
    if view.width < THIN:
        yield record("IE107", where, width=view.width)
    solid = np.asarray(cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    lost = inside & (1 - solid)
    longest = _longest(lost)
    hairy = longest >= LINE and np.count_nonzero(lost) > HAIRY * np.count_nonzero(inside)
    if hairy or longest >= HAIR:
        yield record("IE115", where)
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    dust = int(np.count_nonzero(areas <= DUST))
    if dust >= FEW and areas.max() >= LARGE and not hairy:
        yield record("IE106", where, count=dust)
    if grid is not None:
        return
    block = _block(inside)
    if block in BLOCKS:
        yield record("IE116", where, what=f"it goes in steps of {block} px")
    elif not hairy and areas.max() > 2 * DUST and _roughness(inside) > ROUGH:
        yield record("IE116", where, what="it is as rough as after a noisy threshold")


def _longest(lines: Plane) -> int:
    """Return the largest extent of a piece, pixels."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    return int(stats[1:count, 2:4].max()) if count > 1 else 0


def _roughness(inside: Plane) -> float:
    """Return how many pixels a median of 3×3 changes, per pixel of outline. Smooth shapes change at corners only."""
    core = np.asarray(cv2.erode(inside, np.ones((3, 3), np.uint8)), np.uint8)
    rim = max(int(np.count_nonzero(inside & (1 - core))), 1)
    return float(np.count_nonzero(cv2.medianBlur(inside, 3) != inside) / rim)


def _block(inside: Plane) -> int:
    """Return the greatest common divisor of the distances between edges along both axes; 1 where there are few."""
    places = [np.flatnonzero((np.diff(inside, axis=axis) != 0).any(axis=1 - axis)) for axis in (0, 1)]
    if min(map(len, places)) < STEPS[0] or sum(map(len, places)) < STEPS[1]:
        return 1
    return int(np.gcd.reduce(np.concatenate([np.diff(each) for each in places])))
