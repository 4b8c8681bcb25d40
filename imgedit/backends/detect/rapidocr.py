"""PP-OCR networks for finding and reading text, out of the files that the rapidocr package carries.

First the picture is searched as it is, at two sizes. What the detector cannot see, the reader often can read: lines
are followed beyond the ends that were found, letters of one drawn colour are searched in a picture of that colour, and
large semi-transparent letters in looks at the picture that bring them out. All that is found in these ways must read
as text, and read nearly the same when it is cut a little otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.detect import _faint, _found, _ppocr
from imgedit.backends.detect._found import Found
from imgedit.frame import Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels

#: a single character must be found and read at least this well: many things look like a 1 or an O
LONE_FOUND, LONE_READ = 0.6, 0.95
#: and it must not be larger than this share of the picture: a shape that fills it is no letter
LONE_SHARE = 0.25
#: a line of two letters must be read this well
SHORT_SURE = 0.95


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
        from imgedit.backends.onnx import fingerprint

        return {role: fingerprint(_ppocr.file(role)) for role in ("det", "rec")}

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
        for scale in _found.scales(rows, columns):
            seen, rest = _seen(pixels, scale)
            found += seen
            unread += rest
        if min(rows, columns) >= 4 * _found.LOW:
            found += _faint.coloured(pixels, found)
            if not part:
                faint, places = _faint.overlaid(pixels, found)
                found += faint
                unread += places
            found = _found.whole(pixels, found, unread)
        merged = regions.merge([one.polygon for one in found], [one.sure for one in found])
        result = []
        for polygon, members, whole in merged:
            text = found[members[0]].text
            if read:
                # the words of the whole box, not of the part that could be read best
                text = found[whole[0]].text if whole else _found.both_ways(pixels, polygon)[1].text
            corners = regions.corners(regions.clip(polygon, rows, columns))
            if len(corners) > 2:
                result.append(Region(corners, "text", text if read else None, round(found[members[0]].sure, 4)))
        return result


def _seen(pixels: Pixels, scale: float) -> tuple[list[Found], list[NDArray[np.float64]]]:
    """Return what the detector sees at *scale* and the reader can read, and the boxes that it cannot."""
    from imgedit.ops import lines, regions

    found, unread = [], []
    for polygon, score in _found.boxes(pixels, scale, _found.THRESHOLD):
        line, reading = _found.both_ways(pixels, polygon)
        small = regions.area(polygon) <= LONE_SHARE * pixels.shape[0] * pixels.shape[1]
        letters = [sign for sign in reading.text if sign.isalnum()]
        if len(letters) < 2:
            sure = bool(letters) and small and score >= LONE_FOUND and reading.sure >= LONE_READ
        elif len(letters) == 2:
            sure = reading.sure >= SHORT_SURE
        elif _found.plain(letters):
            # blanks aside: how wide one is, is less sure than any sign
            signs = [certainty for sign, certainty, _ in reading.signs if sign.strip()]
            sure = sum(signs) >= _found.PLAIN_SURE * len(signs)
        else:
            sure = reading.sure >= _found.SURE
            # what is read badly must be more than a sign repeated, and read the same when it is cut otherwise
            sure = sure or (len(set(letters)) > 2 and lines.steady(lambda at: _ppocr.read(pixels, at), line, reading))
        if sure:
            found.append(Found(polygon, line, reading.text, reading.sure))
        else:
            unread.append(polygon)
    return found, unread
