"""One PNG from a stream of bytes and back, band by band, with nothing believed that was not checked."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from isal import isal_zlib

from imgedit import spill
from imgedit.codec import chunks
from imgedit.codec.chunks import IEND, SIGNATURE, Source
from imgedit.codec.limits import MIB, Limits, damaged, too_long
from imgedit.codec.rows import Compact, Stored, unfilter
from imgedit.codec.samples import Colours, Header, raw_rows, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

log = logging.getLogger("imgedit")

#: bytes of unfiltered rows that are worked on at a time: they stay in the cache
BAND = 1 << 19
PLANE = "plAN"
_TEXT = ("tEXt", "zTXt", "iTXt")
#: metadata that is carried, with the length it must have; 0: any
_CARRIED = {"gAMA": 4, "cHRM": 32, "sRGB": 1, "cICP": 4, "mDCV": 24, "cLLI": 8, "pHYs": 9, "eXIf": 0}
_ONCE = frozenset({"PLTE", "tRNS", "iCCP", *_CARRIED})
_MOST_CHUNKS = 10_000


@dataclass(slots=True)
class Picture:
    """What stands in a picture file: pixels as in a Frame, and what was found beside them, not yet judged."""

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None
    mode: str
    icc: bytes | None = None
    chunks: list[tuple[str, bytes]] = field(default_factory=list)
    sidecar: bytes | None = None
    planes: list[bytes] = field(default_factory=list)


class _Pixels:
    """Takes the compressed data of one picture in pieces; gives pixels and alpha."""

    def __init__(self, header: Header, colours: Colours, name: str, *, plane: bool) -> None:
        self._header, self._colours, self._name = header, colours, name
        self._inflate = isal_zlib.decompressobj()
        self._missing = header.raw_bytes
        # stored blocks of one byte each are the worst that a sane coder could write
        self._compressed_left = 6 * self._missing + MIB
        stride = 1 + header.row_bytes(header.columns)
        self._band = self._missing if header.interlaced else max(1, BAND // stride) * stride
        self._parts: list[bytes] = []
        self._have = 0
        self._row = 0
        size = (header.rows, header.columns)
        self.pixels = spill.empty(size if plane else (*size, 3), header.dtype)
        self.alpha = spill.empty(size, header.dtype) if colours.alpha else None
        self._above = np.zeros(stride - 1, np.uint8)

    def feed(self, data: memoryview) -> None:
        """Take the next piece of compressed data."""
        self._compressed_left -= len(data)
        if self._compressed_left < 0 or (self._inflate.eof and len(data)):
            raise damaged(self._name, "there is more picture data than the picture has pixels")
        rest: bytes | memoryview = data
        while not self._inflate.eof:
            room = min(self._band, self._missing) - self._have if self._missing else 1
            try:
                out = self._inflate.decompress(rest, room)
            except isal_zlib.IsalError:  # type: ignore[misc]  # its stubs call the class an instance
                raise damaged(self._name, "the picture data cannot be inflated") from None
            rest = self._inflate.unconsumed_tail
            if out:
                self._take(out)
            if len(out) < room:
                break
        if self._inflate.unused_data:
            raise damaged(self._name, "there is more picture data than the picture has pixels")

    def _take(self, out: bytes) -> None:
        if not self._missing:
            raise damaged(self._name, "there is more picture data than the picture has pixels")
        self._parts.append(out)
        self._have += len(out)
        if self._have == min(self._band, self._missing):
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._missing -= self._have
            self._parts, self._have = [], 0
            (self._passes if self._header.interlaced else self._rows)(np.frombuffer(data, np.uint8))

    def finish(self) -> None:
        """Check that nothing is missing."""
        if self._missing or not self._inflate.eof:
            raise damaged(self._name, "the picture data end too early")

    def _unfilter(self, raw: NDArray[np.uint8], above: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        if raw[:, 0].max() > 4:
            raise damaged(self._name, "a row has an unknown filter")
        unfilter(raw, above, self._header.bpp, out)

    def _rows(self, data: NDArray[np.uint8]) -> None:
        header, width = self._header, len(self._above)
        raw = data.reshape(-1, 1 + width)
        start, stop = self._row, self._row + len(raw)
        self._row = stop
        places = [self.pixels[start:stop], *([] if self.alpha is None else [self.alpha[start:stop]])]
        pixels, *alpha = (spill.room(place) for place in places)
        direct = header.depth == 8 and self._colours.direct(pixels)
        rows = pixels.reshape(len(raw), -1) if direct else np.empty((len(raw), width), np.uint8)
        self._unfilter(raw, self._above, rows)
        self._above = rows[-1]
        if not direct:
            self._colours.convert(unpack(rows, header, header.columns), pixels, alpha[0] if alpha else None)
        for place, values in zip(places, (pixels, *alpha)):
            spill.store(place, values)

    def _passes(self, data: NDArray[np.uint8]) -> None:
        header, start = self._header, 0
        samples = np.empty((header.rows, header.columns, header.channels), header.dtype)
        for count, columns, place in header.passes():
            width = header.row_bytes(columns)
            raw = data[start : start + count * (1 + width)].reshape(count, 1 + width)
            start += raw.size
            rows = np.empty((count, width), np.uint8)
            self._unfilter(raw, np.zeros(width, np.uint8), rows)
            samples[place] = unpack(rows, header, columns)
        self._colours.convert(samples, self.pixels, self.alpha)


class _Reader:
    """Reads the chunks of one picture, in the order that the PNG specification allows."""

    def __init__(self, source: Source, limits: Limits, plane: Callable[[Header], None] | None) -> None:
        self._source, self._limits, self._name = source, limits, source.name
        self._seen: set[str] = set()
        self._count = self._metadata = 0
        self._found: dict[str, bytes] = {}
        self._carried: list[tuple[str, bytes]] = []
        self._dropped: set[str] = set()
        self._planes: list[bytes] = []
        self._sidecar: bytes | None = None
        self._pixels: _Pixels | None = None
        kind, length = chunks.read_head(source)
        if kind != "IHDR" or length != 13:
            raise damaged(self._name, "the picture does not begin with IHDR")
        self._header = Header.parse(chunks.read_body(source, kind, length), self._name)
        limits.check_size(self._header.rows, self._header.columns, self._name)
        self._plane_only = plane is not None
        if plane:
            plane(self._header)

    def read(self) -> Picture:
        kind, length = chunks.read_head(self._source)
        while kind != "IEND":
            if kind == "IDAT" and self._pixels is None:
                kind, length = self._data(length)
                continue
            self._chunk(kind, length)
            kind, length = chunks.read_head(self._source)
        if chunks.read_body(self._source, kind, min(length, 1)):
            raise damaged(self._name, "chunk IEND is not empty")
        if self._pixels is None:
            raise damaged(self._name, "there is no picture data (IDAT)")
        if self._dropped:
            log.info("%s: not carried: chunks %s", self._name, ", ".join(sorted(self._dropped)))
        pixels, mode = self._pixels, self._header.mode("tRNS" in self._found)
        icc = self._found.get("iCCP")
        return Picture(pixels.pixels, pixels.alpha, mode, icc, self._carried, self._sidecar, self._planes)

    def _data(self, length: int) -> tuple[str, int]:
        """Read all IDAT chunks; return the head of the chunk after them."""
        colours = Colours(self._header, self._found.get("PLTE"), self._found.get("tRNS"), self._name)
        self._pixels = pixels = _Pixels(self._header, colours, self._name, plane=self._plane_only)
        kind = "IDAT"
        while kind == "IDAT":
            crc = isal_zlib.crc32(b"IDAT")
            for piece in self._source.pieces(length, "the picture data"):
                crc = isal_zlib.crc32(piece, crc)
                pixels.feed(piece)
            chunks.check_crc(self._name, kind, crc, self._source.exactly(4, "chunk IDAT"))
            kind, length = chunks.read_head(self._source)
        pixels.finish()
        return kind, length

    def _chunk(self, kind: str, length: int) -> None:
        name = self._name
        self._count += 1
        if self._count > _MOST_CHUNKS:
            raise damaged(name, f"there are more than {_MOST_CHUNKS} chunks")
        if kind in ("IDAT", "IHDR") or (kind in _ONCE and kind in self._seen):
            raise damaged(name, f"chunk {kind} stands twice, or not where it belongs")
        if kind[0].isupper() and kind != "PLTE":
            raise damaged(name, f"chunk {kind} is needed to show the picture and not known here")
        self._seen.add(kind)
        if kind == PLANE:
            self._planes.append(self._plane(length))
            return
        limit = self._limits.chunk_bytes
        if length > (max(limit, self._limits.sidecar_bytes + 100) if kind == "iTXt" else limit):
            raise too_long(name, f"chunk {kind}", limit)
        body = chunks.read_body(self._source, kind, length)
        self._metadata += length
        if self._metadata > 4 * max(self._limits.chunk_bytes, self._limits.sidecar_bytes):
            raise too_long(name, "all metadata together", 4 * self._limits.chunk_bytes)
        self._sort(kind, body)

    def _plane(self, length: int) -> bytes:
        # a plane is one byte per pixel: stored, it is a little larger than that
        header, name = self._header, self._name
        if length > header.rows * (header.columns + 1) * 2 + MIB:
            raise damaged(name, "a plane is larger than the picture")
        self._limits.check_planes(len(self._planes) + 1, header.rows, header.columns, name)
        return chunks.read_body(self._source, PLANE, length)

    def _sort(self, kind: str, body: bytes) -> None:
        name = self._name
        if kind in ("PLTE", "tRNS"):
            if self._pixels is not None:
                raise damaged(name, f"chunk {kind} stands after the picture data")
            self._found[kind] = body
        elif kind == "iCCP":
            self._found[kind] = chunks.profile(body, self._limits, name)
        elif kind in _TEXT:
            text = chunks.check_text(kind, body, self._limits, name)
            if text is None:
                self._carried.append((kind, body))
            elif self._sidecar is None:
                self._sidecar = text
            else:
                raise damaged(name, "there are two sidecars")
        elif kind in _CARRIED and len(body) != (_CARRIED[kind] or len(body)):
            log.warning("%s: chunk %s has a wrong length and is dropped", name, kind)
        elif kind in _CARRIED or kind[3].islower():  # a lower-case fourth letter: safe to copy
            self._carried.append((kind, body))
        else:
            if kind == "acTL":
                log.warning("%s: an animation; its first picture is used", name)
            self._dropped.add(kind)


def read_png(source: Source, limits: Limits, plane: Callable[[Header], None] | None = None) -> Picture:
    """Read one PNG whose signature has been read already, up to and including its IEND.

    *plane*: refuses a header that is not grey; the pixels are then (rows, columns). Chunk CRCs, the
    checksum and exact length of the data, filter types and palette indices are verified. Raises DataError.
    """
    return _Reader(source, limits, plane).read()


def write_png(
    file: BinaryIO,
    header: Header,
    pixels: NDArray[Any],
    alpha: NDArray[Any] | None,
    *,
    before: list[tuple[str, bytes]] | None = None,
    after: list[tuple[str, bytes]] | None = None,
    compact: bool,
) -> None:
    """Write one PNG: *compact* for files and planes, stored for pipes; *before*, *after*: chunks round IDAT."""
    coder = Compact() if compact else Stored()
    head = b"".join(chunks.chunk(*item) for item in before or [])
    file.write(SIGNATURE + chunks.chunk("IHDR", header.pack()) + head)
    step = max(1, BAND // (1 + header.row_bytes(header.columns)))
    for start in range(0, header.rows, step):
        stop = min(start + step, header.rows)
        body = b"".join((b"IDAT", *coder.add(raw_rows(header, pixels, alpha, start, stop), last=stop == header.rows)))
        if len(body) > 4:
            file.write(struct.pack(">I", len(body) - 4))
            file.write(body)
            file.write(struct.pack(">I", isal_zlib.crc32(body)))
    file.write(b"".join(chunks.chunk(*item) for item in after or []) + IEND)


def carries(kind: str) -> bool:
    """Tell whether a chunk of this type may stand in Frame.chunks."""
    if kind in _CARRIED or kind in _TEXT:
        return True
    private = len(kind) == 4 and kind.isascii() and kind.isalpha()
    return private and kind[0].islower() and kind[3].islower()
