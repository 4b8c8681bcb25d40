"""Text found without a network: thin strokes of one colour, of like height, side by side on a line.

Strokes by top-hat and black-hat; connected components with the proportions of letters; chains of them whose height,
stroke width and colour agree (after Epshtein, Ofek and Wexler, "Detecting Text in Natural Scenes with Stroke Width
Transform", CVPR 2010, section 3.3; the width is taken from the distance transform, not cast along rays).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from imgedit.frame import Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels

#: strokes up to about half of these widths are seen, pixels
KERNELS = (9, 31)
#: a stroke differs from its ground by this many levels of 255
CONTRAST = 36
#: letters: height in pixels, width over height, share of the box that is filled, stroke width over height
HEIGHT = (7, 160)
ASPECT = (0.08, 2.5)
FILLED = (0.12, 0.9)
STROKE = (0.04, 0.42)
#: neighbours: ratio of heights and of stroke widths, gap and shift over the larger height, colour in levels
HEIGHTS, STROKES, GAP, SHIFT, COLOUR = 1.9, 2.2, 1.1, 0.5, 40.0
#: a line has at least this many letters
LETTERS = 4
#: pictures with a shorter side than this are searched at twice their size
ENLARGED = 1100
#: components that are looked at in one picture, largest first
MOST = 3000


class Letters(NamedTuple):
    """Components with the proportions of letters: one row each."""

    #: left, top, width, height
    boxes: NDArray[np.float64]
    stroke: NDArray[np.float64]
    colour: NDArray[np.float64]
    filled: NDArray[np.float64]


class Opencv:
    """Finds level, clearly drawn lines of at least four separate letters; takes some textures for text."""

    summary: ClassVar[str] = "thin strokes in a row, no network; clear level text only, some false boxes, cannot read"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    reads: ClassVar[bool] = False

    def detect(self, pixels: Pixels, *, read: bool, part: bool = False) -> list[Region]:
        """Return the regions of text in (rows, columns, 3) uint8 *pixels*; their text is never known."""
        import cv2
        import numpy as np

        from imgedit.ops import regions

        rows, columns = pixels.shape[:2]
        if rows < HEIGHT[0] or columns < 2 * HEIGHT[0]:
            return []
        # letters of a few pixels run together: smaller pictures are searched enlarged
        scale = 2.0 if min(rows, columns) < ENLARGED else 1.0
        searched = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else pixels
        boxes: list[Any] = []
        scores: list[float] = []
        # blue by itself: yellow and orange stamps on light ground differ in nothing else
        for plane in (cv2.cvtColor(searched, cv2.COLOR_RGB2GRAY), np.ascontiguousarray(searched[..., 2])):
            for kernel in KERNELS:
                square = cv2.getStructuringElement(cv2.MORPH_RECT, (kernel, kernel))
                for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
                    letters = _letters(searched, cv2.morphologyEx(plane, operation, square))
                    for chain in _chains(letters):
                        box, score = _line(letters, chain)
                        boxes.append(box / scale)
                        scores.append(score)
        merged = regions.merge(boxes, scores)
        clipped = [(regions.clip(one.polygon, rows, columns), scores[one.members[0]]) for one in merged]
        return [Region(regions.corners(box), "text", None, round(score, 4)) for box, score in clipped if len(box) > 2]


def _letters(pixels: Pixels, strokes: NDArray[Any]) -> Letters:
    """Return the components of what exceeds the contrast in *strokes* that could be letters."""
    import cv2
    import numpy as np

    # half of what stands out here, so that the rim of strong strokes does not join neighbours
    high = cv2.dilate(strokes, np.ones((15, 15), np.uint8))
    binary = ((strokes >= CONTRAST) & (strokes > high // 2)).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    left, top, wide, tall, size = stats.T.astype(np.float64)
    filled = size / (wide * tall)
    likely = (tall >= HEIGHT[0]) & (tall <= HEIGHT[1]) & (filled >= FILLED[0]) & (filled <= FILLED[1])
    likely &= (wide >= ASPECT[0] * tall) & (wide <= ASPECT[1] * tall)
    likely[0] = False
    chosen = np.flatnonzero(likely)
    chosen = np.sort(chosen[np.argsort(-size[chosen], kind="stable")][:MOST])
    number = np.full(len(stats), -1)
    number[chosen] = np.arange(len(chosen))
    rows, columns = np.nonzero(binary)
    owner = number[labels[rows, columns]]
    rows, columns, owner = rows[owner >= 0], columns[owner >= 0], owner[owner >= 0]
    depth = cv2.distanceTransform(binary, cv2.DIST_L2, 3)[rows, columns]
    count = np.maximum(np.bincount(owner, minlength=len(chosen)), 1)
    # the mean distance to the edge over a stroke of width w is about w / 4
    stroke = 4 * np.bincount(owner, depth, len(chosen)) / count
    colour = np.stack([np.bincount(owner, pixels[rows, columns, c], len(chosen)) / count for c in range(3)], axis=1)
    thin = (stroke >= STROKE[0] * tall[chosen]) & (stroke <= STROKE[1] * tall[chosen])
    boxes = np.stack([left, top, wide, tall], axis=1)[chosen]
    return Letters(boxes[thin], stroke[thin], colour[thin], filled[chosen][thin])


def _chains(letters: Letters) -> list[list[int]]:
    """Return the chains of letters of which each is the next one to the right of the one before."""
    import numpy as np

    if len(letters.boxes) < LETTERS:
        return []
    left, top, wide, tall = letters.boxes.T
    order = np.argsort(left, kind="stable")
    after: dict[int, int] = {}
    for here in order:
        gap = left - (left[here] + wide[here])
        larger = np.maximum(tall, tall[here])
        near = (left > left[here]) & (gap < GAP * larger) & (gap > -0.3 * wide[here])
        # both stand on one line: bottoms or middles agree
        shift = np.minimum(abs(top + tall - top[here] - tall[here]), abs(top + tall / 2 - top[here] - tall[here] / 2))
        near &= shift < SHIFT * larger * 0.5
        near &= np.maximum(tall / tall[here], tall[here] / tall) < HEIGHTS
        near &= np.maximum(letters.stroke / letters.stroke[here], letters.stroke[here] / letters.stroke) < STROKES
        near &= abs(letters.colour - letters.colour[here]).max(axis=1) < COLOUR
        candidates = np.flatnonzero(near)
        if len(candidates):
            after[int(here)] = int(candidates[np.argmin(left[candidates])])
    chains: dict[int, list[int]] = {}
    for here in map(int, order):
        chain = chains.pop(here, [here])
        follower = after.get(here)
        if follower is None:
            chains[-1 - here] = chain
        elif len(chain) + 1 > len(chains.get(follower, [])):
            chains[follower] = [*chain, follower]
    return [chain for chain in chains.values() if len(chain) >= LETTERS]


def _line(letters: Letters, chain: list[int]) -> tuple[NDArray[np.float64], float]:
    """Return the rotated box round a chain of letters, and how regular it is (0…1)."""
    import cv2
    import numpy as np

    boxes = letters.boxes[chain]
    left, top, wide, tall = boxes.T
    points = np.concatenate([np.stack([x, y], axis=1) for x in (left, left + wide) for y in (top, top + tall)])
    slope, base = np.polyfit(left + wide / 2, top + tall, 1)
    angle = math.degrees(math.atan(slope))
    # along the foot of the letters, not the smallest box: short lines would tilt
    turn = np.array([[math.cos(math.radians(angle)), -math.sin(math.radians(angle))]])
    turn = np.concatenate([turn, [[math.sin(math.radians(angle)), math.cos(math.radians(angle))]]])
    level = points @ turn
    low, high = level.min(axis=0) - 0.15 * tall.mean(), level.max(axis=0) + 0.15 * tall.mean()
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]) @ turn.T
    strokes, colours = letters.stroke[chain], letters.colour[chain]
    off_line = abs(top + tall - slope * (left + wide / 2) - base).mean() / tall.mean()
    uneven = strokes.std() / strokes.mean() + off_line + colours.std(axis=0).mean() / 60 + tall.std() / tall.mean() / 2
    # ten letters in a row are seldom an accident, four often are
    score = (1 - math.exp(-len(chain) / 4)) * math.exp(-0.6 * uneven) * 1.1
    return cv2.convexHull(corners.astype(np.float32)).reshape(-1, 2).astype(np.float64), min(score, 1.0)
