"""What can be known to go wrong before a mask is filled: its geometry, and the pixels round it.

The mask is looked at whole; pixels only in windows round a few holes, so that time does not follow the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops import holes
from imgedit.ops.structure import luma as luma_of

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Luma = NDArray[np.float32]
Box = tuple[int, int, int, int]

SEVERITIES = ("info", "warning", "error")

#: code → severity, message, hint
CODES: dict[str, tuple[str, str, str]] = {
    "IE101": ("warning", "the mask is empty: nothing will change", "find something to mask: imgedit detect-text"),
    "IE102": ("error", "the mask covers the whole picture: there is nothing to fill from", "mask less of the picture"),
    "IE103": ("error", "the mask looks inverted: it covers the border and {share}", "imgedit mask --invert"),
    "IE104": ("error", "the mask covers {share}: too much to be filled from the rest", "mask less of the picture"),
    "IE105": ("warning", "the mask covers {share}", "a mask of the strokes leaves more: imgedit mask --fit glyph"),
    "IE106": ("warning", "{count} specks of a few pixels lie apart from the rest", "imgedit mask --min-area 16"),
    "IE107": (
        "info",
        "strokes of {width:.0f} px are thinner than a latent cell of 8: a latent model could miss them",
        "imgedit mask --grid 8",
    ),
    "IE108": ("info", "the hole touches the border: there is context on some sides only", "look at the result there"),
    "IE109": (
        "warning",
        "only {share} of the surroundings is known",
        "mask the strokes only: imgedit mask --fit glyph",
    ),
    "IE110": ("info", "the surroundings are blurred: sharp fill would show", "imgedit erase --backend harmonic"),
    "IE111": (
        "warning",
        "the surroundings show 8×8 blocks of strong JPEG compression: marks of the text reach beyond it",
        "imgedit mask --dilate 2",
    ),
    "IE112": (
        "warning",
        "strong edges end at a hole {width:.0f} px wide: a smooth fill would break them",
        "mask the strokes only: imgedit mask --fit glyph",
    ),
    "IE113": (
        "warning",
        "the mask is tight: something of what it covers shows round it",
        "imgedit mask --dilate 1",
    ),
    "IE114": (
        "warning",
        "no masked pixel reaches 255: what was there will shine through",
        "imgedit mask --threshold 1",
    ),
}

TOO_MUCH = 0.75
MUCH = 0.3
SPECK = 12  # pixels
THIN = 8  # pixels: one cell of a latent grid
MARGIN = 32  # pixels of context looked at
LITTLE = 0.3  # share of known pixels in the window round a hole
WINDOW = 320  # pixels: windows are cut to this
WINDOWS = 6  # holes whose surroundings are looked at, the largest first
LARGE = 32  # pixels across: holes that a smooth fill cannot bridge
BLURRED = 0.62  # of the blur measure; sharp photos stay below 0.5
BLOCKY = 1.5  # steps on the 8×8 grid against steps elsewhere
HALO = 1.2  # steps at the rim of the mask against steps further out
HALO_LEVELS = 4


class Record(NamedTuple):
    """What a check noticed: the fields of a finding. *where*: (x, y, width, height) in pixels."""

    code: str
    severity: str
    message: str
    hint: str
    where: Box | None = None


def check(pixels: Pixels, mask: Plane) -> list[Record]:
    """Return what is noticed about filling *mask* (rows, columns) in *pixels* (rows, columns, 3), each code once.

    uint8 or uint16 pixels. Codes, severities and texts: CODES.
    """
    share = cv2.countNonZero(mask) / mask.size
    if share == 0:
        return [_record("IE101")]
    if share == 1:
        return [_record("IE102")]
    found = list(_coverage(mask, share))
    if any(record.code in ("IE103", "IE104") for record in found):
        return found
    groups = holes.find(mask, MARGIN)
    found += _specks(mask, groups)
    found += _border(mask, groups)
    largest = sorted(groups, key=lambda g: (g.top - g.bottom) * (g.right - g.left))[:WINDOWS]
    for hole in largest:
        window = _window(hole, mask)
        luma = 255 * luma_of(pixels[window.slices])
        found += _surroundings(luma, mask[window.slices], hole)
    return _once(found)


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


def _record(code: str, where: Box | None = None, **facts: Any) -> Record:
    severity, message, hint = CODES[code]
    return Record(code, severity, message.format(**facts), hint, where)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _once(records: Sequence[Record]) -> list[Record]:
    """Return the first record of each code, in the order of the codes."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.code, record)
    return [first[code] for code in sorted(first)]


# --- geometry of the mask --------------------------------------------------------------------------------


def _coverage(mask: Plane, share: float) -> Iterable[Record]:
    of_picture = f"{_percent(share)} of the picture"
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    # text is a small part away from the border; its inverse is the opposite in both
    if share > 0.6 and np.count_nonzero(edges) > 0.9 * len(edges) and min(mask.shape) > 2:
        yield _record("IE103", share=of_picture)
    elif share > TOO_MUCH:
        yield _record("IE104", share=of_picture)
    elif share > MUCH:
        yield _record("IE105", share=of_picture)


def _specks(mask: Plane, groups: Sequence[holes.Hole]) -> Iterable[Record]:
    small = [g for g in groups if (g.bottom - g.top) * (g.right - g.left) <= SPECK]
    large = [g for g in groups if (g.bottom - g.top) * (g.right - g.left) >= 10 * SPECK]
    # where all is small, dust is what was meant
    if small and large:
        yield _record("IE106", small[0].where, count=len(small))


def _border(mask: Plane, groups: Sequence[holes.Hole]) -> Iterable[Record]:
    rows, columns = mask.shape
    for hole in groups:
        if hole.top == 0 or hole.left == 0 or hole.bottom == rows or hole.right == columns:
            yield _record("IE108", hole.where)
            return


# --- the surroundings of one hole ------------------------------------------------------------------------


def _window(hole: holes.Hole, mask: Plane) -> holes.Hole:
    """Return the box round *hole* with context; a large one is cut to WINDOW pixels at its upper left."""
    top, left, bottom, right = hole.grown(MARGIN, mask.shape)
    if bottom - top > WINDOW:
        middle = hole.top + WINDOW // 4
        top, bottom = max(0, middle - WINDOW // 2), min(bottom, middle + WINDOW // 2)
    if right - left > WINDOW:
        rows = mask[max(top, hole.top) : bottom, hole.left : hole.right]
        middle = hole.left + int(np.flatnonzero(rows.any(axis=0))[0]) + WINDOW // 4
        left, right = max(0, middle - WINDOW // 2), min(right, middle + WINDOW // 2)
    return holes.Hole(top, left, bottom, right)


def _surroundings(luma: Luma, mask: Plane, hole: holes.Hole) -> Iterable[Record]:
    inside = (mask > 0).view(np.uint8)
    known = inside == 0
    if known.mean() < LITTLE:
        yield _record("IE109", hole.where, share=_percent(float(known.mean())))
    if mask.max() < 255:
        yield _record("IE114", hole.where)
    depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    width = 2 * float(depth.max()) - 1
    if width < THIN:
        yield _record("IE107", hole.where, width=width)
    first, second = rim(luma, mask)
    if first > HALO * second + HALO_LEVELS:
        yield _record("IE113", hole.where)
    # two pixels away, so that neither the hole nor its antialiased rim is measured
    clear = cv2.dilate(inside, np.ones((5, 5), np.uint8)) == 0
    if grid_strength(luma, clear) > BLOCKY:
        yield _record("IE111", hole.where)
    elif blur(luma, clear) > BLURRED:
        yield _record("IE110", hole.where)
    if width >= LARGE and _edges_end(luma, inside):
        yield _record("IE112", hole.where, width=width)


def rim(luma: Luma, mask: Plane) -> tuple[float, float]:
    """Return the mean step in levels from 1 to 3 pixels outside the mask, and from 3 to 5, along its normals.

    In a picture both are alike. Where letters are antialiased and the mask ends on them, the first is larger.
    (0, 0) where fewer than 32 pixels of the rim have five known pixels before them.
    """
    away = cv2.distanceTransform((mask == 0).view(np.uint8), cv2.DIST_L2, 3)
    dx, dy = cv2.Sobel(away, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(away, cv2.CV_32F, 0, 1) / 8
    rows, columns = np.nonzero((away > 0) & (away < 1.2))
    length = np.maximum(np.hypot(dx[rows, columns], dy[rows, columns]), 1e-6)
    down, right = dy[rows, columns] / length, dx[rows, columns] / length
    steps = []
    use = np.ones(len(rows), bool)
    for reach in (0, 2, 4):
        y, x = np.rint(rows + reach * down).astype(int), np.rint(columns + reach * right).astype(int)
        use &= (y >= 0) & (y < luma.shape[0]) & (x >= 0) & (x < luma.shape[1])
        y, x = np.clip(y, 0, luma.shape[0] - 1), np.clip(x, 0, luma.shape[1] - 1)
        use &= away[y, x] > 0.75 * reach  # not into the next letter
        steps.append(luma[y, x])
    if np.count_nonzero(use) < 32:
        return 0.0, 0.0
    first, second, third = (values[use] for values in steps)
    return float(np.abs(first - second).mean()), float(np.abs(second - third).mean())


def grid_strength(luma: Luma, clear: NDArray[np.bool_]) -> float:
    """Return how much larger steps are on the most striking of eight grids of period 8 than on the others.

    About 1 without blocks. Second differences |a − 2b + c| are used, so that gradients do not count
    (after Wang, Bovik, Evans, "Blind measurement of blocking artifacts in images", 2000). *clear* says
    which pixels count. The metric blockiness of `compare` is another number: what a reference has is no block there.
    """
    ratios = []
    for values, use in ((luma, clear), (luma.T, clear.T)):
        if values.shape[1] < 32:
            continue
        step = np.abs(values[:, 1:-2] - values[:, 2:-1]) - 0.5 * (
            np.abs(values[:, :-3] - values[:, 1:-2]) + np.abs(values[:, 2:-1] - values[:, 3:])
        )
        whole = use[:, :-3] & use[:, 1:-2] & use[:, 2:-1] & use[:, 3:]
        if np.count_nonzero(whole) < 2000:
            continue
        phase = np.arange(step.shape[1]) % 8
        across = np.abs(values[:, 1:-2] - values[:, 2:-1])
        typical = float(across[whole].mean()) + 0.5
        means = np.array([float(step[:, phase == p][whole[:, phase == p]].mean()) for p in range(8)])
        ratios.append(1 + (means.max() - float(np.median(means))) / typical)
    return min(ratios) if ratios else 1.0


def blur(luma: Luma, clear: NDArray[np.bool_]) -> float:
    """Return 0 (sharp) to 1 (blurred), or 0 where there is too little in the picture to tell.

    How much of the variation between neighbours outlasts another blur of 9 pixels: Crété, Dolmiere, Ladret,
    Nicolas, "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
    *clear* says which pixels count.
    """
    worst = 0.0
    for axis in (0, 1):
        kernel = (1, 9) if axis == 0 else (9, 1)
        again = cv2.blur(luma, kernel)
        # the wide blur must not have seen the hole
        use = cv2.erode(clear.view(np.uint8), np.ones((11, 11), np.uint8)) > 0
        use = use[1:] if axis == 0 else use[:, 1:]
        sharp, soft = np.abs(np.diff(luma, axis=axis))[use], np.abs(np.diff(again, axis=axis))[use]
        if sharp.size < 500 or float(sharp.mean()) < 2:
            return 0.0
        worst = max(worst, 1 - float(np.maximum(sharp - soft, 0).sum() / sharp.sum()))
    return worst


def _edges_end(luma: Luma, inside: Plane) -> bool:
    """Whether two or more strong, straight edges run into the hole from outside."""
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 8
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    ring = (away > 6) & (away < 14)  # the blur of the hole's own edge stays out
    strength = np.hypot(gx, gy)
    if not ring.any():
        return False
    # direction towards the hole, from the distance map; an edge that runs into it has its gradient across that
    ax, ay = cv2.Sobel(away, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(away, cv2.CV_32F, 0, 1) / 8
    along = np.abs(gx * ax + gy * ay) < 0.5 * strength
    strong = ring & along & (strength > max(8.0, 4 * float(np.median(strength[ring]))))
    count, _, stats, _ = cv2.connectedComponentsWithStats(strong.view(np.uint8), connectivity=8)
    # a line across the whole ring is at least as long as the ring is wide
    long = np.maximum(stats[1:count, cv2.CC_STAT_WIDTH], stats[1:count, cv2.CC_STAT_HEIGHT]) >= 7
    return int(np.count_nonzero(long)) >= 2
