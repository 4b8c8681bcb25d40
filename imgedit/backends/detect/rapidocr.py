"""PP-OCR networks for finding and reading text, out of the files that the rapidocr package carries.

First the picture is searched as it is, at two sizes. What the detector cannot see, the reader often can read: with
*faint*, lines are followed beyond the ends that were found, letters of one drawn colour are searched in a picture of
that colour, and large semi-transparent letters in looks at the picture that bring them out. All that is found in these
ways must read as text, and read the same when it is cut a little otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from imgedit.backends.detect import _ppocr
from imgedit.frame import Region

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
#: a single character must be found and read at least this well: many things look like a 1 or an O
LONE_FOUND, LONE_READ = 0.6, 0.95
#: and it must not be larger than this share of the picture: a shape that fills it is no letter
LONE_SHARE = 0.25
#: faint text: the map is cut lower, and places larger than this share of the picture are no lines
FAINT_THRESHOLD, FAINT_SHARE = 0.2, 0.25
#: ... is looked for in a picture reduced to this, and has letters of at least this height there, pixels
FAINT_SIDE, FAINT_HEIGHT = 512, 14
#: ... must have this many letters, read this well
FAINT_LETTERS, FAINT_SURE = 4, 0.8
#: places that are looked at, best first, and lines that are followed
PLACES, LINES = 5, 2
#: lines that are followed beyond their ends, largest first; pages have more, and are found whole
FOLLOWED = 8
#: a box that lies in another by this share is known
KNOWN = 0.8
#: letters of a watermark across the middle: height as a share of the shorter side, slants in degrees
MIDDLE_HEIGHT, SLANTS = 0.137, (0, -25, 25, -42, 42)
#: signs that rings and posts are taken for: a line of them must be read this well, as must one of two letters
ROUND, ROUND_SURE, SHORT_SURE = frozenset("0OoCcDQ6I1l|"), 0.98, 0.95


class Found(NamedTuple):
    """A line that was found: its corners, how it is read, what it says, and how sure that is (0…1)."""

    polygon: NDArray[np.float64]
    line: Line
    text: str
    sure: float


class Rapidocr:
    """Finds text by its look and keeps what can be read: the score is how well it could be read (0…1)."""

    summary: ClassVar[str] = "PP-OCR networks that the rapidocr package carries; finds and reads, offline"
    requires: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime")
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    reads: ClassVar[bool] = True

    @property
    def fingerprint(self) -> dict[str, str]:
        """Name and digest of the two networks, for the record of the step: role → name and digest."""
        files = {role: _ppocr.file(role) for role in ("det", "rec")}
        return {role: f"{file.stem} sha256:{_ppocr.sha256(file)}" for role, file in files.items()}

    def detect(self, pixels: Pixels, *, read: bool, part: bool = False) -> list[Region]:
        """Return the regions of text in (rows, columns, 3) uint8 *pixels*, as rotated boxes; with *read*, its words.

        Every box found is read, with or without *read*: what cannot be read is seldom text, so that this halves
        the false boxes. Boxes of fewer than two letters or digits are dropped unless they are beyond doubt.
        Unless this is a *part* of a picture that is searched whole too, large faint text is looked for as well.
        """
        from imgedit.ops import regions

        rows, columns = pixels.shape[:2]
        if min(rows, columns) < _ppocr.MIN_SIDE:
            return []
        found: list[Found] = []
        unread: list[NDArray[np.float64]] = []
        for scale in _scales(rows, columns):
            seen, rest = _seen(pixels, scale)
            found += seen
            unread += rest
        if min(rows, columns) >= 4 * FAINT_HEIGHT:
            found += _coloured(pixels, found)
            if not part:
                faint, places = _overlaid(pixels, found)
                found += faint
                unread += places
            found = _whole(pixels, found, unread)
        merged = regions.merge([one.polygon for one in found], [one.sure for one in found])
        result = []
        for polygon, members, whole in merged:
            text = found[members[0]].text
            if read:
                # the words of the whole box, not of the part that could be read best
                text = found[whole[0]].text if whole else _both_ways(pixels, polygon)[1].text
            corners = regions.corners(regions.clip(polygon, rows, columns))
            if len(corners) > 2:
                result.append(Region(corners, "text", text if read else None, round(found[members[0]].sure, 4)))
        return result


def _scales(rows: int, columns: int) -> list[float]:
    """The scales that a picture is searched at."""
    base = min(1.0, LONG_SIDE / max(rows, columns))
    larger = min(SHORT_SIDE / min(rows, columns), LONG_SIDE / max(rows, columns), MAX_ENLARGE)
    return [base, larger] if larger > 1.2 else [base]


def _boxes(pixels: Pixels, scale: float, threshold: float) -> list[tuple[NDArray[np.float64], float]]:
    """Return the boxes of the detector's map of *pixels* at *scale*, each with its mean."""
    from imgedit.ops import regions

    scores = _ppocr.score_map(pixels, scale)
    per_pixel = (pixels.shape[1] / scores.shape[1], pixels.shape[0] / scores.shape[0])
    found = regions.boxes_of_map(scores, threshold=threshold, min_score=threshold, grow=GROW)
    return [(box * per_pixel, score) for box, score in found]


def _seen(pixels: Pixels, scale: float) -> tuple[list[Found], list[NDArray[np.float64]]]:
    """Return what the detector sees at *scale* and the reader can read, and the boxes that it cannot."""
    from imgedit.ops import lines, regions

    found, unread = [], []
    for polygon, score in _boxes(pixels, scale, THRESHOLD):
        line, reading = _both_ways(pixels, polygon)
        small = regions.area(polygon) <= LONE_SHARE * pixels.shape[0] * pixels.shape[1]
        letters = [sign for sign in reading.text if sign.isalnum()]
        if len(letters) < 2:
            sure = bool(letters) and small and score >= LONE_FOUND and reading.sure >= LONE_READ
        elif len(letters) == 2 or 2 * sum(sign in ROUND for sign in letters) > len(letters):
            sure = reading.sure >= (SHORT_SURE if len(letters) == 2 else ROUND_SURE)
        else:
            sure = reading.sure >= SURE
            # what is read badly must be more than a sign repeated, and read the same when it is cut otherwise
            sure = sure or (len(set(letters)) > 2 and lines.steady(lambda at: _ppocr.read(pixels, at), line, reading))
        if sure:
            found.append(Found(polygon, line, reading.text, reading.sure))
        else:
            unread.append(polygon)
    return found, unread


def _both_ways(pixels: Pixels, polygon: NDArray[np.float64]) -> tuple[Line, Reading]:
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


def _whole(pixels: Pixels, found: list[Found], unread: Sequence[NDArray[np.float64]] = ()) -> list[Found]:
    """Return *found* with those lines made longer of which only a part was seen."""
    from imgedit.ops import lines, regions

    heights = sorted((one.line.height for one in found), reverse=True)[: 2 * FOLLOWED]
    result: list[Found] = []
    # the longer one first: seen at two sizes, a line is followed once
    for known_as in sorted(found, key=lambda each: -each.line.length):
        one, line = known_as, known_as.line
        known = any(regions.overlap(one.polygon, other.polygon) > KNOWN for other in result)
        if line.height >= max(FAINT_HEIGHT, heights[-1]) and not known:
            longer = lines.extended(lambda at: _ppocr.read(pixels, at), line)
            whole, text = (longer[0], longer[1].text) if longer else (line, one.text)
            whole = lines.joined(whole, unread)
            if whole != line:
                one = Found(lines.box(whole), whole, text, one.sure)
        result.append(one)
    return result


def _coloured(pixels: Pixels, found: list[Found]) -> list[Found]:
    """Return the text of a drawn colour that was not found before."""
    from imgedit.ops import lines, looks

    scale = min(1.0, FAINT_SIDE / min(pixels.shape[:2]))
    result: list[Found] = []
    for colour in looks.drawn_colours(pixels):
        keyed = looks.keyed(pixels, colour)
        seen = []
        for polygon, _ in _boxes(keyed, scale, THRESHOLD):
            if not _covered([one.polygon for one in (*found, *result)], polygon.mean(axis=0)):
                line, reading = _both_ways(keyed, polygon)
                if len(reading.letters) >= FAINT_LETTERS and reading.sure >= FAINT_SURE:
                    seen.append(Found(lines.box(line), line, reading.text, reading.sure))
        result += _whole(keyed, seen)
    return result


def _overlaid(pixels: Pixels, found: list[Found]) -> tuple[list[Found], list[NDArray[np.float64]]]:
    """Return large faint text that was not found before, followed by reading, and all places in other looks."""
    from imgedit.ops import lines, looks, regions

    scale = min(1.0, FAINT_SIDE / min(pixels.shape[:2]))
    rows, columns = pixels.shape[:2]
    small = regions.searchable(pixels, round(max(rows, columns) * scale))
    places: list[tuple[float, Any]] = []
    for look in looks.overlays(small):
        for polygon, score in _boxes(look.pixels, 1.0, FAINT_THRESHOLD):
            box = looks.back(polygon, look.matrix)
            high = regions.line(box)[1]
            if high >= FAINT_HEIGHT and regions.area(box) <= FAINT_SHARE * small.shape[0] * small.shape[1]:
                places.append((score, box))

    def read(at: Line) -> Reading:
        return _ppocr.read(small, at)

    done = [one.polygon * scale for one in found]
    result = []
    middle = _checked(read, lines.follow(read, _middle(*small.shape[:2])))
    if middle and not any(len(one.text) >= len(middle.text) for one in _under(found, middle, scale)):
        done.append(middle.polygon)
        result.append(_at(middle, 1 / scale))
    places.sort(key=lambda place: -place[0])
    tried: list[Any] = []
    for _, box in places:
        if _covered(done, box.mean(axis=0)) or _covered(tried, box.mean(axis=0)):
            continue
        if len(tried) >= PLACES or len(result) >= LINES:
            break
        tried.append(box)
        one = _checked(read, lines.follow(read, _starts(box)))
        if one:
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


def _under(found: list[Found], one: Found, scale: float) -> list[Found]:
    """Return those of *found* that the middle of *one*, at *scale*, lies in."""
    return [other for other in found if _covered([other.polygon * scale], one.polygon.mean(axis=0))]


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
    if sure < FAINT_SURE or not lines.steady(read, line, reading):
        return None
    return Found(lines.box(line), line, reading.text, sure)


def _covered(polygons: list[Any], point: Any) -> bool:
    """Return whether *point* lies in one of *polygons*."""
    import cv2
    import numpy as np

    at = (float(point[0]), float(point[1]))
    return any(cv2.pointPolygonTest(polygon.astype(np.float32), at, False) >= 0 for polygon in polygons)
