"""Text that the detector does not see in the picture itself: of one drawn colour, or large and semi-transparent."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from imgedit.backends.detect import _found, _ppocr
from imgedit.backends.detect._found import Found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels
    from imgedit.ops.lines import Line, Reading

#: faint text: the map is cut lower, and places larger than this share of the picture are no lines
FAINT_THRESHOLD, FAINT_SHARE = 0.2, 0.25
#: ... is looked for in a picture reduced to this
FAINT_SIDE = 512
#: ... must have this many letters, read this well
FAINT_LETTERS, FAINT_SURE = 4, 0.8
#: places that are looked at, best first, and lines that are followed
PLACES, LINES = 5, 2
#: letters of a watermark across the middle: height as a share of the shorter side, slants in degrees
MIDDLE_HEIGHT, SLANTS = 0.137, (0, -25, 25, -42, 42)
#: texture below it is calmed by the median of so many pixels squared, where as much as this is read without
CALM, HINT = 5, 0.5
#: a followed line that has this share of the smaller in common with one that says the same is that line
REPEATED = 0.5
#: half a letter, share of the height of a line
HALF = 0.3


def coloured(pixels: Pixels, found: list[Found]) -> list[Found]:
    """Return the text of a drawn colour that was not found before."""
    from imgedit.ops import lines, looks

    # letters of 16 pixels among specks of the same colour are seen where the picture is enlarged
    scale = _found.enlarged(*pixels.shape[:2])
    result: list[Found] = []
    for colour in looks.drawn_colours(pixels):
        keyed = looks.keyed(pixels, colour)
        seen = []
        for polygon, _ in _found.boxes(keyed, scale, _found.THRESHOLD):
            if not _known([*found, *result], polygon):
                line, reading = _found.both_ways(keyed, polygon)
                letters = [sign for sign, _, _ in reading.letters]
                least = _found.PLAIN_SURE if _found.plain(letters) else FAINT_SURE
                if len(letters) >= FAINT_LETTERS and reading.sure >= least:
                    seen.append(Found(lines.box(line), line, reading.text, reading.sure))
        result += _found.whole(keyed, seen)
    return result


def _known(found: list[Found], polygon: NDArray[np.float64]) -> bool:
    """Return whether one of *found* lies where *polygon* does and is as long but for half a letter."""
    from imgedit.ops import lines

    length = lines.of_box(polygon).length
    at = polygon.mean(axis=0)
    return any(_found.covered([one.polygon], at) and one.line.length > length - HALF * one.line.height for one in found)


def overlaid(pixels: Pixels, found: list[Found]) -> tuple[list[Found], list[NDArray[np.float64]]]:
    """Return large faint text that was not found before, followed by reading, and all places in other looks."""
    from imgedit.ops import lines, looks, regions

    scale = min(1.0, FAINT_SIDE / min(pixels.shape[:2]))
    rows, columns = pixels.shape[:2]
    small = regions.searchable(pixels, round(max(rows, columns) * scale))
    places: list[tuple[float, Any]] = []
    for look in looks.overlays(small):
        for polygon, score in _found.boxes(look.pixels, 1.0, FAINT_THRESHOLD):
            box = looks.back(polygon, look.matrix)
            high = regions.line(box)[1]
            if high >= _found.LOW and regions.area(box) <= FAINT_SHARE * small.shape[0] * small.shape[1]:
                places.append((score, box))

    def read(at: Line) -> Reading:
        return _ppocr.read(small, at)

    done = [one.polygon * scale for one in found]
    result = []
    middle = _central(small)
    if middle and not _repeated(found, middle, scale):
        done.append(middle.polygon)
        result.append(_at(middle, 1 / scale))
    places.sort(key=lambda place: -place[0])
    tried: list[Any] = []
    for _, box in places:
        if _found.covered(done, box.mean(axis=0)) or _found.covered(tried, box.mean(axis=0)):
            continue
        if len(tried) >= PLACES or len(result) >= LINES:
            break
        tried.append(box)
        one = _checked(read, lines.follow(read, _starts(box)))
        if one and not _repeated(found, one, scale):
            done.append(one.polygon)
            result.append(_at(one, 1 / scale))
    return result, [box / scale for _, box in places]


def _at(found: Found, scale: float) -> Found:
    """Return *found* in a picture that is larger by *scale*."""
    line = found.line
    larger = [scale * value for value in (line.x, line.y, line.length, line.height)]
    x, y, length, height = larger
    return found._replace(polygon=found.polygon * scale, line=type(line)(x, y, line.angle, length, height))


def _middle(rows: int, columns: int) -> list[Line]:
    """Return where reading may begin in the middle of a picture, where watermarks are put."""
    from imgedit.ops import lines

    height = MIDDLE_HEIGHT * min(rows, columns)
    starts = [lines.Line(columns / 2, rows / 2, math.radians(slant), 5 * height, height) for slant in SLANTS]
    return [start.moved(0, across) for start in starts for across in (0.0, 0.3 * height)]


def _central(small: Pixels) -> Found | None:
    """Return the text across the middle of a picture, read as it is, else where that fails with its texture calmed."""
    import cv2
    import numpy as np

    from imgedit.ops import lines

    starts = _middle(*small.shape[:2])
    for look in (small, np.asarray(cv2.medianBlur(small, CALM), np.uint8)):
        read = cache(partial(_ppocr.read, look))
        if max(read(start).strength for start in starts) < HINT:
            break
        found = _checked(read, lines.follow(read, starts))
        if found:
            return found
    return None


def _repeated(found: list[Found], one: Found, scale: float) -> bool:
    """Return whether *one*, at *scale*, is a line of *found* again, followed from beside it and no longer."""
    from imgedit.ops import lines, regions

    for other in found:
        polygon = other.polygon * scale
        same = regions.overlap(polygon, one.polygon) > REPEATED and lines.agree(other.text, one.text)
        # a sign more is a speck at an end
        if len(other.text) >= len(one.text) - same and (same or _found.covered([polygon], one.polygon.mean(axis=0))):
            return True
    return False


def _starts(box: NDArray[np.float64]) -> list[Line]:
    """Return where reading may begin at a place: along it where it is long, else level and at the usual slants."""
    from imgedit.ops import lines

    line = lines.of_box(box)
    if line.length >= 2 * line.height:
        return [line, line._replace(height=0.75 * line.height)]
    height = max(line.height, 30.0)
    return [line._replace(angle=math.radians(degrees), height=height, length=5 * height) for degrees in (0, -25, 25)]


def _checked(read: Any, followed: tuple[Line, Reading] | None) -> Found | None:
    """Return what was followed if it is text beyond doubt."""
    from imgedit.ops import lines

    if followed is None:
        return None
    line, reading = followed
    letters = reading.letters
    if len(letters) < FAINT_LETTERS:
        return None
    sure = sum(sign[1] for sign in letters) / len(letters)
    if sure < FAINT_SURE or not lines.held(read, line, reading):
        return None
    return Found(lines.box(line), line, reading.text, sure)
