"""Lines of text: their geometry, and how one is followed by reading it.

A reader that says how sure it is of each sign is a better judge of where a line lies than any threshold: a strip that
is too low, tilted or cut reads badly. Coordinates are those of pixel edges, as in ``regions``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

#: a sign counts for what its certainty exceeds this
GUESS = 0.5
#: lengths that a line is followed over, in heights, and by how much its angle is turned at each, radians
STAGES = ((5.0, 0.1), (8.0, 0.05), (14.0, 0.026))
#: what is tried around a line: shift across it and change of height, shares of the height
SHIFT, TALLER = 0.18, 1.2
#: a start is given up where the reader has less than this, and less than this once it is settled
HOPELESS, WEAK = 0.9, 1.9
#: the ends of the text and its upper and lower edge lie this much beyond what is read best, shares of the height
ENDS, EDGES = 0.45, 0.12
#: two readings agree when their signs match to this share (Ratcliff and Obershelp)
AGREED = 0.6
#: faint letters are read now as this, now as that: it is enough that readings match to this share where the one has
#: this share of the strength of the other
ALIKE, HELD = 0.35, 0.45


class Line(NamedTuple):
    """A strip: its middle (*x*, *y*), the *angle* it runs at (radians, down is positive), *length* and *height*."""

    x: float
    y: float
    angle: float
    length: float
    height: float

    def moved(self, along: float, across: float) -> Line:
        """Return the strip moved by *along* its direction and *across* it, pixels."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return self._replace(x=self.x + along * cosine - across * sine, y=self.y + along * sine + across * cosine)


class Reading(NamedTuple):
    """What a strip says. *sure*: mean certainty (0…1); *signs*: each with its certainty and place (0…1) along."""

    text: str
    sure: float
    signs: tuple[tuple[str, float, float], ...]

    @property
    def strength(self) -> float:
        """How much is read how surely: the sum over letters and digits of what exceeds a guess."""
        return sum(max(0.0, sure - GUESS) for sign, sure, _ in self.signs if sign.isalnum())

    @property
    def letters(self) -> list[tuple[str, float, float]]:
        """The letters and digits that are more than guessed."""
        return [each for each in self.signs if each[0].isalnum() and each[1] > GUESS]


Reader = Callable[[Line], Reading]


def of_box(polygon: Points) -> Line:
    """Return the line in a rotated box. A tall box is read from below to above."""
    (x, y), (wide, high), angle = cv2.minAreaRect(polygon.astype(np.float32))
    if not -45 <= angle <= 45:
        wide, high, angle = high, wide, angle - math.copysign(90, angle)
    # text that runs up or down the picture is turned; which of the two, reading both ways decides
    if high >= 1.5 * wide:
        wide, high, angle = high, wide, angle - 90
    return Line(x, y, math.radians(angle), wide, max(high, 1.0))


def box(line: Line) -> Points:
    """Return the corners of a line, (4, 2)."""
    ends = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    corners = [line.moved(along * line.length, across * line.height) for along, across in ends]
    return np.array([(corner.x, corner.y) for corner in corners])


def cut(pixels: NDArray[np.uint8], line: Line, rows: int, longest: int) -> NDArray[np.uint8]:
    """Return what lies in *line* of (rows, columns, 3) uint8 *pixels*, level, *rows* high, *longest* wide at most."""
    columns = min(max(16, math.ceil(line.length * rows / line.height)), longest)
    cosine, sine = math.cos(line.angle), math.sin(line.angle)
    step_x, step_y = line.length / columns, line.height / rows
    axes = np.array([[cosine * step_x, -sine * step_y], [sine * step_x, cosine * step_y]])
    # pixel centres of the strip to pixel centres of the picture
    origin = np.array([line.x, line.y]) + axes @ (0.5 - np.array([columns, rows]) / 2) - 0.5
    matrix = np.column_stack([axes, origin])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    strip = cv2.warpAffine(pixels, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(strip, np.uint8)


def agree(one: str, other: str, least: float = AGREED) -> bool:
    """Return whether two readings say nearly the same: case, blanks and points aside."""
    signs = ["".join(sign for sign in text.casefold() if sign.isalnum()) for text in (one, other)]
    return bool(difflib.SequenceMatcher(None, signs[0], signs[1], autojunk=False).ratio() >= least)


def steady(read: Reader, line: Line, reading: Reading) -> bool:
    """Return whether *line* says the same when it is cut a little otherwise: texture does not, letters do."""
    return all(agree(reading.text, read(other).text) for other in _otherwise(line))


def held(read: Reader, line: Line, reading: Reading) -> bool:
    """Return whether *line* says the same when it is cut a little otherwise, or something like it as surely."""
    others = [read(other) for other in _otherwise(line)]
    least = [AGREED if other.strength < HELD * reading.strength else ALIKE for other in others]
    return all(agree(reading.text, other.text, share) for other, share in zip(others, least))


def _otherwise(line: Line) -> tuple[Line, Line]:
    return (
        line.moved(0, 0.07 * line.height)._replace(height=1.12 * line.height),
        line.moved(0, -0.07 * line.height)._replace(height=1.06 * line.height, length=line.length + 0.3 * line.height),
    )


def extended(read: Reader, line: Line) -> tuple[Line, Reading] | None:
    """Return *line* made longer where its text goes on beyond its ends, and what it then says; None where it does not.

    Letters that stand on the line no further away than a word's gap belong to it. The middle of a letter at the very
    end of the line means that the line cuts it.
    """
    best = None
    for _ in range(3):
        room = 2.0 * line.height
        longer = line._replace(length=line.length + 2 * room)
        reading = read(longer)
        places = [place * longer.length for sign, sure, place in reading.signs if sure > GUESS and sign.strip()]
        start, end = _reached(places, room, room + line.length, 1.6 * line.height)
        grown = max(room - start, 0.0), max(end - room - line.length, 0.0)
        if max(grown) < 0.08 * line.height:
            break
        line = line.moved((grown[1] - grown[0]) / 2, 0)._replace(length=line.length + sum(grown))
        best = (line, reading)
        if max(grown) < 0.7 * room:
            break
    return best


def _reached(places: list[float], start: float, end: float, gap: float) -> tuple[float, float]:
    """Return where a line from *start* to *end* must begin and end so that the letters at *places* are in it."""
    inside = [place for place in places if start <= place <= end]
    pitch = (inside[-1] - inside[0]) / (len(inside) - 1) if len(inside) > 2 else gap / 2
    margin = 0.75 * max(pitch, gap / 4)
    first, last = (inside[0], inside[-1]) if inside else (start, end)
    for place in reversed(places):
        if 0 < first - place <= gap:
            first = place
    for place in places:
        if 0 < place - last <= gap:
            last = place
    return min(start, first - margin), max(end, last + margin)


def joined(line: Line, others: Sequence[Points]) -> Line:
    """Return *line* made longer by those boxes of *others* that stand on it just beyond its ends: signs unread."""
    for polygon in others:
        along, across = _relative(line, polygon)
        low, high = float(along.min()), float(along.max())
        level = abs(float(across.mean())) < 0.35 * line.height
        alike = 0.35 * line.height < float(np.ptp(across)) < 1.5 * line.height and high - low < 2.5 * line.height
        gap = max(low, -high) - line.length / 2
        if level and alike and -0.5 * line.height < gap < 0.9 * line.height:
            start, end = min(low, -line.length / 2), max(high, line.length / 2)
            line = line.moved((start + end) / 2, 0)._replace(length=end - start)
    return line


def _relative(line: Line, polygon: Points) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the corners of *polygon* along and across *line*, from its middle."""
    cosine, sine = math.cos(line.angle), math.sin(line.angle)
    x, y = polygon[:, 0] - line.x, polygon[:, 1] - line.y
    return x * cosine + y * sine, y * cosine - x * sine


def follow(read: Reader, starts: Sequence[Line]) -> tuple[Line, Reading] | None:
    """Return the line that is read best from one of *starts*, followed to both of its ends, or None.

    From the start that reads best, the strip is moved, turned and made taller or flatter as long as more is read, and
    centred on what it says; then the same with a longer strip. The returned line is a little larger than its text.
    """
    read_so_far = [(read(start), start) for start in starts]
    reading, line = max(read_so_far, key=lambda each: each[0].strength)
    if reading.strength < HOPELESS:
        return None
    best = (reading, line)
    for heights, turn in STAGES:
        line, reading = _settled(read, line._replace(length=max(heights * line.height, line.length)), turn)
        if reading.strength < WEAK:
            break
        line, reading = _centred(read, line, reading)
        if reading.strength >= best[0].strength:
            best = (reading, line)
        # room at both ends: nothing is left to be found
        span = reading.letters[-1][2] - reading.letters[0][2] if reading.letters else 0.0
        if heights > STAGES[0][0] and span < 1 - 3 * line.height / line.length:
            break
    reading, line = best
    return (_trimmed(line, reading), reading) if reading.strength >= WEAK else None


def _settled(read: Reader, line: Line, turn: float) -> tuple[Line, Reading]:
    """Return the line near *line* that is read best: each change is kept as long as it helps."""
    reading = read(line)
    for _ in range(2):
        step = SHIFT * line.height
        tried = [
            line.moved(0, step),
            line.moved(0, -step),
            line._replace(angle=line.angle + turn),
            line._replace(angle=line.angle - turn),
            line._replace(height=line.height * TALLER),
            line._replace(height=line.height / TALLER),
        ]
        readings = [read(other) for other in tried]
        number = max(range(len(tried)), key=lambda i: readings[i].strength)
        if readings[number].strength <= reading.strength + 0.02:
            break
        line, reading = tried[number], readings[number]
    return line, reading


def _centred(read: Reader, line: Line, reading: Reading) -> tuple[Line, Reading]:
    letters = reading.letters
    middle = (letters[0][2] + letters[-1][2]) / 2 - 0.5
    moved = line.moved(middle * line.length, 0)
    return moved, read(moved)


def _trimmed(line: Line, reading: Reading) -> Line:
    """Return *line* from its first to its last sign that is more than guessed, with a margin."""
    letters = [each for each in reading.signs if each[0].strip() and each[1] > GUESS] or list(reading.signs)
    first, last = letters[0][2], letters[-1][2]
    pitch = (last - first) * line.length / max(len(letters) - 1, 1)
    margin = max(ENDS * line.height, 0.9 * pitch)
    moved = line.moved(((first + last) / 2 - 0.5) * line.length, 0)
    return moved._replace(length=(last - first) * line.length + 2 * margin, height=line.height * (1 + 2 * EDGES))
