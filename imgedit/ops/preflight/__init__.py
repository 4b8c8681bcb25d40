"""What can be known to go wrong before a mask is filled: its geometry, how it fits, and the pixels round it.

The mask is looked at whole, in cells; pixels only round a few holes and on reduced copies of large ones, so that
time does not follow the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.codes import CODES, SEVERITIES
from imgedit.ops.preflight import fit, geometry, surroundings
from imgedit.ops.preflight.geometry import Group
from imgedit.ops.preflight.record import Record, record
from imgedit.ops.preflight.view import View, cut, overview

__all__ = ["CODES", "SEVERITIES", "Record", "check", "refusal"]

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

BUDGET = 1 << 17  # pixels that are looked at closely, the largest holes first; the first two in any case
FEWEST, MOST = 2, 6  # holes that are looked at closely


def check(pixels: Pixels, mask: Plane, *, grid: int | None = None, why: str | None = None) -> list[Record]:
    """Return what is noticed about filling *mask* (rows, columns) in *pixels* (rows, columns, 3), each code once.

    uint8 or uint16 pixels. *grid*: the mask was laid on cells of this size on purpose. *why*: an empty mask is of a
    search that found no text, by this pattern, "" where by none. Codes and texts: CODES.
    """
    if mask.shape != pixels.shape[:2]:
        (rows, columns), (of_rows, of_columns) = mask.shape, pixels.shape[:2]
        return [record("IE119", rows=rows, columns=columns, of_rows=of_rows, of_columns=of_columns)]
    share = cv2.countNonZero(mask) / mask.size
    if share == 0:
        cause = "" if why is None else f": no text matched {why!r:.80}" if why else ": no text was found"
        return [record("IE101", cause=cause)]
    if share == 1:
        return [record("IE102")]
    found = list(geometry.coverage(mask, share))
    if any(each.severity == "error" for each in found):
        return found
    groups = geometry.groups(mask)
    found += geometry.specks(mask, groups)
    found += geometry.border(mask, groups)
    spent = 0
    for number, group in enumerate(sorted(groups, key=lambda group: -group.cells)[:MOST]):
        if spent > BUDGET and number >= FEWEST:
            break
        near, whole = cut(pixels, mask, group.box), overview(pixels, mask, group.box)
        spent += near.inside.size + (0 if whole is near else whole.inside.size)
        found += _hole(mask, group, near, whole, grid)
    return _once(found)


def _hole(mask: Plane, group: Group, near: View, whole: View, grid: int | None) -> Iterable[Record]:
    """Yield what is noticed about one hole, seen *near*, at full size, and *whole*, which may be reduced."""
    where = group.where
    if near.most < 255 and whole.most < 255:
        yield record("IE114", where)
    yield from geometry.context(mask, group)
    yield from geometry.outline(near, where, grid)
    yield from surroundings.look(near, where)
    yield from surroundings.crossing(whole, where)
    yield from fit.tight(near, where)
    yield from fit.aligned(whole, where)


def refusal(records: Iterable[Record], fail_on: str) -> tuple[str, str] | None:
    """Return message and hint of a refusal when a record is at least as severe as *fail_on*, else None.

    *fail_on*: info, warning, error, or never.
    """
    if fail_on == "never":
        return None
    grave = [r for r in records if SEVERITIES.index(r.severity) >= SEVERITIES.index(fail_on)]
    if not grave:
        return None
    message = "preflight: " + "; ".join(f"{r.code} {r.message}" for r in grave)
    hints = dict.fromkeys(r.hint for r in grave if r.hint)
    return message, "; ".join(hints) or "give --force to go on all the same"


def _once(records: Sequence[Record]) -> list[Record]:
    """Return the first record of each code, in the order of the codes."""
    first: dict[str, Record] = {}
    for each in records:
        first.setdefault(each.code, each)
    return [first[code] for code in sorted(first)]
