"""A TIFF by its strips: some of them with a header of their own are a TIFF again, which any decoder reads."""

from __future__ import annotations

import io
import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

_COLUMNS, _ROWS, _COMPRESSION, _OFFSETS, _ROWS_PER_STRIP, _COUNTS = 0x100, 0x101, 0x103, 0x111, 0x116, 0x117
_PLANAR, _ORIENTATION, _TILES = 0x11C, 0x112, 0x144
#: what says how samples are stored: depth, compression and what that needs, colours, kinds of samples
_STORED = frozenset(
    (
        *(_COLUMNS, 0x102, _COMPRESSION, 0x106, 0x10A, 0x115, _PLANAR, 0x124, 0x125, 0x13D, 0x140, 0x14C),
        *(0x152, 0x153, 0x15B, 0x211, 0x212, 0x213, 0x214),
    )
)
#: bytes of a value, by its type
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
#: entries of a directory, and bytes of one, beyond which it is no picture's
_MOST, _LONGEST = 1000, 1 << 20
#: compressions whose strips stand for themselves (TIFF 6.0, Adobe's supplements): none, packed bits, LZW, deflate, JPEG
_ALONE = {1, 32773, 5, 8, 32946, 7}
_LONG = 4


def readable(image: Image, file: BinaryIO) -> bool:
    """Tell whether the TIFF *image*, not yet loaded, can be read by its strips: upright, in several, side by side."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    file.seek(0)
    plain = file.read(4) in (b"II*\0", b"MM\0*")
    offsets, counts = tags.get(_OFFSETS, ()), tags.get(_COUNTS, ())
    return (
        plain
        and _TILES not in tags
        and tags.get(_ORIENTATION, 1) == 1
        and tags.get(_PLANAR, 1) == 1
        and tags.get(_COMPRESSION, 1) in _ALONE
        and len(offsets) == len(counts) == -(-image.height // tags.get(_ROWS_PER_STRIP, image.height))
        and len(offsets) > 1
        # strips that name the same bytes again and again are a bomb
        and sum(counts) <= file.seek(0, io.SEEK_END)
    )


def parts(image: Image, file: BinaryIO, pixels: int) -> Iterator[tuple[int, int, io.BytesIO]]:
    """Yield first row, last row and a TIFF of the rows between, for about *pixels* pixels at a time, in order.

    What follows the end of the file is left out: its decoder will say so.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    order, entries = _entries(file)
    height = int(tags[_ROWS_PER_STRIP])
    step = max(1, pixels // (height * image.width))
    for first in range(0, len(tags[_OFFSETS]), step):
        strips = []
        for offset, count in zip(tags[_OFFSETS][first : first + step], tags[_COUNTS][first : first + step]):
            file.seek(offset)
            strips.append(file.read(count))
        top, bottom = first * height, min((first + step) * height, image.height)
        yield top, bottom, io.BytesIO(_tiff(order, entries, bottom - top, height, strips))


def _entries(file: BinaryIO) -> tuple[str, dict[int, tuple[int, bytes]]]:
    """Return the order of bytes, and tag → type and data of what says how the first picture is stored."""
    file.seek(0)
    head = file.read(8)
    order = "<" if head[:2] == b"II" else ">"
    file.seek(struct.unpack(order + "I", head[4:])[0])
    (count,) = struct.unpack(order + "H", file.read(2))
    found: dict[int, tuple[int, bytes]] = {}
    for number, entry in enumerate(struct.iter_unpack(order + "HHI4s", file.read(12 * count))):
        tag, kind, length, value = entry
        if tag in _STORED and number < _MOST:
            size = length * _SIZES.get(kind, 1)
            if size > 4:
                file.seek(struct.unpack(order + "I", value)[0])
                value = file.read(min(size, _LONGEST))
            found[tag] = kind, value[:size]
    return order, found


def _tiff(order: str, entries: dict[int, tuple[int, bytes]], rows: int, height: int, strips: list[bytes]) -> bytes:
    """Return a TIFF of *strips*, each but the last of *height* rows, stored as *entries* say."""
    count = len(strips)

    def longs(*values: int) -> tuple[int, bytes]:
        return _LONG, struct.pack(f"{order}{len(values)}I", *values)

    own = {**entries, _ROWS: longs(rows), _ROWS_PER_STRIP: longs(height), _COUNTS: longs(*map(len, strips))}
    # behind the header, the directory, and what does not fit into it
    begin = 8 + 2 + 12 * (len(own) + 1) + 4 + sum(len(data) for _, data in own.values() if len(data) > 4)
    begin += 4 * count if count > 1 else 0
    own[_OFFSETS] = longs(*accumulate(map(len, strips[:-1]), initial=begin))
    place = 8 + 2 + 12 * len(own) + 4
    directory, beside = [struct.pack(order + "H", len(own))], []
    for tag, (kind, data) in sorted(own.items()):
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack(order + "I", place)
            place += len(data)
            beside.append(data)
        directory.append(struct.pack(order + "HHI", tag, kind, len(data) // _SIZES.get(kind, 1)) + value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return b"".join((head, *directory, bytes(4), *beside, *strips))
