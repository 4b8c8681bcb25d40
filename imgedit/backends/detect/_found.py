"""A line of text that was found: where the detector sees one, what it says, and how far it goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from imgedit.backends.detect import _ppocr

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels
    from imgedit.ops.lines import Line, Reading

#: the map of the detector is cut here (0…1); boxes with a lower mean are not looked at
THRESHOLD = 0.3
#: boxes are grown by this share of area / perimeter; 1.5 in the paper, more loses context, less cuts letters
GROW = 1.6
#: pictures with a shorter side than this are searched enlarged too: letters under about 12 pixels, weak contrast
SHORT_SIDE = 736
MAX_ENLARGE = 3.0
#: longer sides are searched reduced: memory grows by about 0.35 GB per megapixel
LONG_SIDE = 1536
#: a line read worse than this is also tried upside down, and must read the same when it is cut otherwise
SURE = 0.9
#: signs that rings and posts are taken for: a line of them must be read this well
PLAIN, PLAIN_SURE = frozenset("0OoCcDQ6I1l|"), 0.98
#: lines that are followed beyond their ends, largest first; pages have more, and are found whole
FOLLOWED = 8
#: lower lines are not followed, pixels
LOW = 14
#: a box that lies in another by this share is known
KNOWN = 0.8


class Found(NamedTuple):
    """A line that was found: its corners, how it is read, what it says, and how sure that is (0…1)."""

    polygon: NDArray[np.float64]
    line: Line
    text: str
    sure: float


def scales(rows: int, columns: int) -> list[float]:
    """The scales that a picture is searched at."""
    base = min(1.0, LONG_SIDE / max(rows, columns))
    larger = enlarged(rows, columns)
    return [base, larger] if larger > 1.2 else [base]


def enlarged(rows: int, columns: int) -> float:
    """The scale at which the shorter side of a picture is long enough for small letters, under 1 for large ones."""
    return min(SHORT_SIDE / min(rows, columns), LONG_SIDE / max(rows, columns), MAX_ENLARGE)


def boxes(pixels: Pixels, scale: float, threshold: float) -> list[tuple[NDArray[np.float64], float]]:
    """Return the boxes of the detector's map of *pixels* at *scale*, each with its mean."""
    from imgedit.ops import regions

    scores = _ppocr.score_map(pixels, scale)
    per_pixel = (pixels.shape[1] / scores.shape[1], pixels.shape[0] / scores.shape[0])
    found = regions.boxes_of_map(scores, threshold=threshold, min_score=threshold, grow=GROW)
    return [(box * per_pixel, score) for box, score in found]


def both_ways(pixels: Pixels, polygon: NDArray[np.float64]) -> tuple[Line, Reading]:
    """Return the line in a rotated box and what it says, from the side that it can be read better from."""
    from imgedit.ops import lines

    line = lines.of_box(polygon)
    reading = _ppocr.read(pixels, line)
    if reading.sure < SURE:
        turned = line._replace(angle=line.angle + math.pi)
        other = _ppocr.read(pixels, turned)
        if other.sure > reading.sure:
            return turned, other
    return line, reading


def plain(letters: Sequence[str]) -> bool:
    """Return whether most of *letters* are such as rings and posts are taken for."""
    return 2 * sum(letter in PLAIN for letter in letters) > len(letters)


def whole(pixels: Pixels, found: list[Found], unread: Sequence[NDArray[np.float64]] = ()) -> list[Found]:
    """Return *found* with those lines made longer of which only a part was seen."""
    from imgedit.ops import lines, regions

    heights = sorted((one.line.height for one in found), reverse=True)[: 2 * FOLLOWED]
    result: list[Found] = []
    # the longer one first: seen at two sizes, a line is followed once
    for known_as in sorted(found, key=lambda each: -each.line.length):
        one, line = known_as, known_as.line
        known = any(regions.overlap(one.polygon, other.polygon) > KNOWN for other in result)
        if line.height >= max(LOW, heights[-1]) and not known:
            longer = lines.extended(lambda at: _ppocr.read(pixels, at), line)
            whole, text = (longer[0], longer[1].text) if longer else (line, one.text)
            whole = lines.joined(whole, unread)
            if whole != line:
                one = Found(lines.box(whole), whole, text, one.sure)
        result.append(one)
    return result


def covered(polygons: list[Any], point: Any) -> bool:
    """Return whether *point* lies in one of *polygons*."""
    import cv2
    import numpy as np

    at = (float(point[0]), float(point[1]))
    return any(cv2.pointPolygonTest(polygon.astype(np.float32), at, False) >= 0 for polygon in polygons)
