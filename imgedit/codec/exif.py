"""The orientation in EXIF: found, applied to arrays, and set to upright in place."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from imgedit import spill

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORIENTATION = 0x0112
_SHORT = 3
#: bytes that are turned at a time: of a picture in a file, each row of the result is written once for each
_PART = 8 << 20


def upright(exif: bytes) -> tuple[int, bytes]:
    """Return the orientation (1…8) that *exif* (a TIFF header and IFDs) states, and *exif* stating 1.

    EXIF 2.32, section 4.6.5. Only the value itself is changed. What is not understood says nothing: 1.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 10:
        return 1, exif
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return 1, exif
    (count,) = struct.unpack_from(order + "H", exif, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, place)
        if tag == _ORIENTATION and kind == _SHORT and 1 <= value <= 8:
            return value, exif[: place + 8] + struct.pack(order + "H", 1) + exif[place + 10 :]
    return 1, exif


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return (rows, columns, …) as it is to be seen under an EXIF *orientation* of 1…8."""
    across = orientation >= 5  # 5 to 8 are 1 to 4 with rows and columns exchanged first
    rows, columns = array.shape[1::-1] if across else array.shape[:2]
    result = spill.empty((rows, columns, *array.shape[2:]), array.dtype)
    done = 0
    for part in spill.parts(array, _PART):
        place = slice(done, done + len(part))
        done += len(part)
        if orientation in ((6, 7) if across else (3, 4)):
            place = slice(len(array) - place.stop, len(array) - place.start)
        spill.store(result[:, place] if across else result[place], _turned(part, orientation))
    return result


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
