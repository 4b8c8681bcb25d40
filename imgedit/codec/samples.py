"""Rows of a PNG ↔ RGB and alpha: bit depths, grey, palettes, transparent colours, interlacing."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgedit import spill
from imgedit.codec.limits import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from imgedit.frame import Frame

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_MODES = {GREY: "L", RGB: "RGB", PALETTE: "P", GREY_ALPHA: "LA", RGBA: "RGBA"}
#: modes whose frames go out as grey as long as they are grey
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "LA;16"})
#: every mode that a picture read here may have had
MODES = GREY_MODES | {"P", "PA", "RGB", "RGBA", "RGB;16", "RGBA;16", "CMYK", "YCbCr", "LAB", "HSV"}
#: first row, first column, row step, column step of the passes of Adam7
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@dataclass(frozen=True, slots=True)
class Header:
    """What IHDR says: how rows are to be read."""

    rows: int
    columns: int
    depth: int
    colour: int
    interlaced: bool = False

    @classmethod
    def parse(cls, data: bytes, name: str) -> Header:
        """Read the data of IHDR; DataError for anything that the PNG specification does not define."""
        if len(data) != 13:
            raise damaged(name, "chunk IHDR has a wrong length")
        columns, rows, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", data)
        if depth not in _DEPTHS.get(colour, ()):
            raise damaged(name, f"bit depth {depth} with colour type {colour} is no PNG")
        if compression or filters or interlace > 1:
            raise damaged(name, "chunk IHDR has values that PNG does not define")
        return cls(rows, columns, depth, colour, bool(interlace))

    def pack(self) -> bytes:
        """Return the data of IHDR."""
        return struct.pack(">IIBBBBB", self.columns, self.rows, self.depth, self.colour, 0, 0, self.interlaced)

    @property
    def channels(self) -> int:
        return _CHANNELS[self.colour]

    @property
    def bpp(self) -> int:
        """Bytes per pixel as the filters count them."""
        return max(1, self.channels * self.depth // 8)

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint16 if self.depth == 16 else np.uint8

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a row of so many pixels, without its filter byte."""
        return (columns * self.channels * self.depth + 7) // 8

    def passes(self) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """Yield rows, columns and place of each part that is filtered on its own: one, or those of Adam7."""
        if not self.interlaced:
            yield self.rows, self.columns, (slice(None), slice(None))
            return
        for row, column, down, right in _ADAM7:
            rows, columns = -(-(self.rows - row) // down), -(-(self.columns - column) // right)
            if rows > 0 and columns > 0:
                yield rows, columns, (slice(row, None, down), slice(column, None, right))

    @property
    def raw_bytes(self) -> int:
        """The exact length of the inflated data."""
        return sum(rows * (1 + self.row_bytes(columns)) for rows, columns, _ in self.passes())

    def mode(self, transparent: bool) -> str:
        """Return the mode by Pillow's names; a transparent colour counts as alpha."""
        if self.depth == 1 and self.colour == GREY and not transparent:
            return "1"
        name = _MODES[self.colour] + ("A" if transparent else "")
        if self.depth == 16:
            return "I;16" if name == "L" else name + ";16"
        return name


def unpack(rows: NDArray[np.uint8], header: Header, columns: int) -> NDArray[Any]:
    """Return unfiltered (rows, bytes) as (rows, columns, channels) samples, uint8 or uint16, not yet scaled."""
    count, depth = len(rows), header.depth
    if depth == 16:
        return np.ascontiguousarray(rows).view(">u2").astype(np.uint16).reshape(count, columns, header.channels)
    if depth == 8:
        return rows.reshape(count, columns, header.channels)
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    values = (rows[:, :, None] >> shifts) & np.uint8((1 << depth) - 1)
    return values.reshape(count, -1)[:, :columns, None]


class Colours:
    """Turns samples into RGB and alpha, with the palette and the transparent colour of one picture."""

    def __init__(self, header: Header, palette: bytes | None, transparency: bytes | None, name: str) -> None:
        self.header, self._name = header, name
        self._key: tuple[int, ...] | None = None
        self._table: NDArray[np.uint8] | None = None
        if header.colour == PALETTE:
            self._table = self._read_table(palette, transparency or b"")
        elif transparency is not None:
            if header.colour in (GREY_ALPHA, RGBA) or len(transparency) != 2 * header.channels:
                raise damaged(name, "chunk tRNS does not fit the picture")
            self._key = struct.unpack(f">{header.channels}H", transparency)
        self.alpha = transparency is not None or header.colour in (GREY_ALPHA, RGBA)

    def _read_table(self, palette: bytes | None, transparency: bytes) -> NDArray[np.uint8]:
        if palette is None:
            raise damaged(self._name, "a palette picture without its palette (PLTE)")
        if not palette or len(palette) % 3 or len(palette) > 768 or len(transparency) > len(palette) // 3:
            raise damaged(self._name, "the palette or its transparency has a wrong length")
        table = np.full((len(palette) // 3, 4), 255, np.uint8)
        table[:, :3] = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        table[: len(transparency), 3] = np.frombuffer(transparency, np.uint8)
        return table

    def direct(self, pixels: NDArray[Any]) -> bool:
        """Tell whether unpacked rows are *pixels* as they stand."""
        return not self.alpha and self.header.colour == (RGB if pixels.ndim == 3 else GREY)

    def convert(self, samples: NDArray[Any], pixels: NDArray[Any], alpha: NDArray[Any] | None) -> None:
        """Write (rows, columns, channels) *samples* into *pixels* and *alpha*.

        *pixels*: (rows, columns, 3), or (rows, columns) where the picture is grey.
        """
        grey = samples[..., 0]
        if self._table is not None:
            if int(grey.max()) >= len(self._table):
                raise damaged(self._name, "a pixel has a colour beyond the palette")
            for channel in range(3):
                pixels[..., channel] = self._table[:, channel][grey]
            if alpha is not None:
                alpha[...] = self._table[:, 3][grey]
            return
        if self.header.depth < 8:
            grey = grey * np.uint8(255 // ((1 << self.header.depth) - 1))
        coloured = self.header.channels > 2
        if pixels.ndim == 2:
            pixels[...] = grey
        for channel in range(3 if pixels.ndim == 3 else 0):  # three times as fast as (…, 3) at once
            pixels[..., channel] = samples[..., channel] if coloured else grey
        if alpha is not None and self._key is None:
            alpha[...] = samples[..., -1]
        elif alpha is not None:
            opaque = np.any(samples != np.array(self._key, np.uint16), axis=-1)
            alpha[...] = opaque * samples.dtype.type(np.iinfo(samples.dtype).max)


def is_grey(frame: Frame) -> bool:
    """Tell whether *frame* came from a grey picture and still is grey."""
    image, pixels = frame.sidecar.image, frame.pixels
    if image is None or image.mode not in GREY_MODES:
        return False
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])
        for part in spill.parts(pixels)
    )


def header_for(frame: Frame) -> Header:
    """Return how *frame* goes out: grey while it is, with alpha where it has one, in its own depth."""
    grey, alpha = is_grey(frame), frame.alpha is not None
    colour = (GREY_ALPHA if alpha else GREY) if grey else (RGBA if alpha else RGB)
    return Header(frame.rows, frame.columns, 8 * frame.pixels.dtype.itemsize, colour)


def raw_rows(
    header: Header, pixels: NDArray[Any], alpha: NDArray[Any] | None, start: int, stop: int
) -> NDArray[np.uint8]:
    """Return rows *start*…*stop* as bytes, each led by filter type None: (rows, 1 + bytes) uint8.

    *pixels*: (rows, columns, 3), or (rows, columns) for a plane.
    """
    raw = np.empty((stop - start, 1 + header.row_bytes(header.columns)), np.uint8)
    raw[:, 0] = 0
    part = spill.fetch(pixels[start:stop])
    if header.depth == 8 and alpha is None and header.channels == (1 if part.ndim == 2 else 3):
        raw[:, 1:] = part.reshape(len(part), -1)
        return raw
    samples = np.empty((len(part), header.columns, header.channels), ">u2" if header.depth == 16 else np.uint8)
    for channel in range(header.channels - (alpha is not None)):
        samples[..., channel] = part[..., channel] if part.ndim == 3 else part
    if alpha is not None:
        samples[..., -1] = spill.fetch(alpha[start:stop])
    raw[:, 1:] = samples.reshape(len(part), -1).view(np.uint8)
    return raw


def to_eight(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 or uint16 *samples* as uint8: 16 bits divided by 257, rounded to nearest."""
    if samples.dtype.itemsize == 1:
        return np.ascontiguousarray(samples, np.uint8)
    whole, rest = np.divmod(samples, np.uint16(257))  # (v + 128) // 257 would overflow
    return (whole + (rest > 128)).astype(np.uint8)
