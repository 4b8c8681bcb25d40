"""The PNG container: chunks in and out, their CRCs, text and profile chunks, bounded inflation."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from isal.isal_zlib import crc32

from imgedit.codec.limits import Limits, damaged, too_long
from imgedit.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
IEND = b"\0\0\0\0IEND\xaeB`\x82"
SIDECAR_KEYWORD = b"imgedit"
#: what is read at a time
PIECE = 1 << 18


class Source:
    """Bytes from a file or pipe, in order, with errors that name where they came from."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._buffer = bytearray(PIECE)

    def read(self, count: int) -> bytes:
        """Return up to *count* bytes: fewer only at the end of the input."""
        parts, missing = [], count
        while missing > 0:
            part = self._call(self._file.read, min(missing, 16 * PIECE))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def exactly(self, count: int, what: str) -> bytes:
        """Return *count* bytes; DataError when the input ends before."""
        data = self.read(count)
        if len(data) < count:
            raise damaged(self.name, f"the file ends inside {what}")
        return data

    def pieces(self, count: int, what: str) -> Iterator[memoryview]:
        """Yield *count* bytes piece by piece, each valid until the next; DataError when the input ends before."""
        readinto: Any = getattr(self._file, "readinto", None)
        while count:
            if readinto is None:
                piece = memoryview(self.exactly(min(count, PIECE), what))
            else:
                got = self._call(readinto, memoryview(self._buffer)[: min(count, PIECE)])
                if not got:
                    raise damaged(self.name, f"the file ends inside {what}")
                piece = memoryview(self._buffer)[:got]
            count -= len(piece)
            yield piece

    def _call(self, method: Any, argument: Any) -> Any:
        try:
            return method(argument)
        except OSError as error:
            raise FileError(
                f"{self.name}: could not be read: {error.strerror or error}", "check the file, its disk and its rights"
            ) from None


def chunk(kind: str, data: bytes) -> bytes:
    """Return one whole PNG chunk."""
    body = kind.encode("ascii") + data
    return b"".join((struct.pack(">I", len(data)), body, struct.pack(">I", crc32(body))))


def read_head(source: Source) -> tuple[str, int]:
    """Return type and length of the next chunk."""
    length, kind = struct.unpack(">I4s", source.exactly(8, "the picture (IEND is missing)"))
    if not kind.isalpha() or not kind.isascii() or length > 0x7FFFFFFF:
        raise damaged(source.name, "something that is no PNG chunk stands where one should begin")
    return kind.decode("ascii"), length


def read_body(source: Source, kind: str, length: int) -> bytes:
    """Return the data of a chunk whose head was read; DataError when its CRC is wrong."""
    body = source.exactly(length + 4, f"chunk {kind}")
    data = body[:length]
    check_crc(source.name, kind, crc32(data, crc32(kind.encode("ascii"))), body[length:])
    return data


def check_crc(name: str, kind: str, computed: int, stored: bytes) -> None:
    """Raise DataError when the four bytes *stored* are not the CRC *computed*."""
    if struct.unpack(">I", stored)[0] != computed:
        raise damaged(name, f"chunk {kind} has a wrong checksum")


def inflate(data: bytes | memoryview, limit: int, name: str, what: str) -> bytes:
    """Return zlib *data* inflated; DataError when damaged or longer than *limit* bytes."""
    state = zlib.decompressobj()
    try:
        text = state.decompress(data, limit + 1)
    except zlib.error:
        raise damaged(name, f"{what} cannot be inflated") from None
    if len(text) > limit:
        raise too_long(name, f"{what}, inflated,", limit)
    if not state.eof:
        raise damaged(name, f"{what} is incomplete")
    return text


def profile(data: bytes, limits: Limits, name: str) -> bytes:
    """Return the colour profile in an iCCP chunk."""
    keyword, nul, rest = data.partition(b"\0")
    if not nul or not 1 <= len(keyword) <= 79 or rest[:1] != b"\0":
        raise damaged(name, "chunk iCCP is malformed")
    return inflate(rest[1:], limits.chunk_bytes, name, "the colour profile")


def pack_profile(icc: bytes) -> bytes:
    """Return the data of an iCCP chunk."""
    return b"icc\0\0" + zlib.compress(icc, 6)


def check_text(kind: str, data: bytes, limits: Limits, name: str) -> bytes | None:
    """Check a tEXt, zTXt or iTXt chunk, inflated text within the limits; return the text if it is our sidecar."""
    keyword, nul, rest = data.partition(b"\0")
    if not nul or not 1 <= len(keyword) <= 79:
        raise damaged(name, f"chunk {kind} has no keyword")
    ours = kind == "iTXt" and keyword == SIDECAR_KEYWORD
    limit = limits.sidecar_bytes if ours else limits.chunk_bytes
    if kind == "tEXt":
        return None
    if kind == "zTXt":
        if rest[:1] != b"\0":
            raise damaged(name, "chunk zTXt has an unknown compression")
        inflate(rest[1:], limit, name, "a zTXt chunk")
        return None
    flags, parts = rest[:2], rest[2:].split(b"\0", 2)  # language, translated keyword, text
    if flags not in (b"\0\0", b"\1\0") or len(parts) < 3:
        raise damaged(name, "chunk iTXt is malformed")
    text = parts[2]
    if flags[0]:
        text = inflate(text, limit, name, "an iTXt chunk")
    elif len(text) > limit:
        raise too_long(name, "an iTXt chunk", limit)
    return text if ours else None


def pack_sidecar(text: str) -> bytes:
    """Return the data of the iTXt chunk that holds a sidecar."""
    return SIDECAR_KEYWORD + b"\0\0\0\0\0" + text.encode("utf-8")
