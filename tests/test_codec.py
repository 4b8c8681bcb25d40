"""Frames through streams, every kind of PNG against an independent encoder, and hostile input."""

from __future__ import annotations

import io
import itertools
import json
import logging
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from imgedit.codec import Limits, read_stream, write_stream
from imgedit.codec.exif import turn, upright
from imgedit.codec.rows import unfilter
from imgedit.codec.samples import MODES, to_eight
from imgedit.errors import DataError, FileError, ImgeditError
from imgedit.frame import Frame, ImageInfo, MaskInfo, Region, Sidecar, Step, ToneStats, plane_digest

SIGNATURE = b"\x89PNG\r\n\x1a\n"


# --- an encoder that shares nothing with the codec -----------------------------------------------------


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(head: bytes, *body: bytes, end: bytes = chunk(b"IEND")) -> bytes:
    return SIGNATURE + chunk(b"IHDR", head) + b"".join(body) + end


def head(columns: int, rows: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, interlaced)


def pack_row(row: np.ndarray[Any, Any], depth: int) -> bytes:
    bits = "".join(format(int(value), f"0{depth}b") for value in row.ravel())
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    return min((a, b, c), key=lambda v: abs(p - v))  # min keeps the first of equals: a, b, c as specified


def filtered(lines: list[bytes], bpp: int, kinds: Iterator[int]) -> bytes:
    out, above = b"", bytes(len(lines[0]) if lines else 0)
    for line in lines:
        kind = next(kinds)
        row = bytearray([kind])
        for i, value in enumerate(line):
            a = line[i - bpp] if i >= bpp else 0
            b, c = above[i], above[i - bpp] if i >= bpp else 0
            row.append((value - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) & 255)
        out, above = out + bytes(row), line
    return out


def encode(
    samples: np.ndarray[Any, Any], depth: int, colour: int, *, interlaced: bool = False, kinds: Any = (0,)
) -> bytes:
    """Return zlib data of (rows, columns, channels) samples."""
    bpp = max(1, samples.shape[2] * depth // 8)
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in starts] if interlaced else [samples]
    cycle = itertools.cycle(kinds)
    raw = b"".join(filtered([pack_row(row, depth) for row in part], bpp, cycle) for part in parts if part.size)
    return zlib.compress(raw)


def read(data: bytes, limits: Limits | None = None) -> Frame:
    (frame,) = read_stream(io.BytesIO(data), limits)
    return frame


def written(frame: Frame) -> bytes:
    file = io.BytesIO()
    write_stream(file, frame)
    return file.getvalue()


def picture(rows: int = 6, columns: int = 7, dtype: str = "uint8", seed: int = 0) -> np.ndarray[Any, Any]:
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, (rows, columns, 3), dtype, endpoint=True)


def short(value: object) -> str:
    """Return a readable name for a test's case."""
    return value[:10].hex() if isinstance(value, bytes) else str(value)


def same(one: Frame, two: Frame) -> None:
    assert one.pixels.dtype == two.pixels.dtype
    assert np.array_equal(one.pixels, two.pixels)
    for a, b in ((one.alpha, two.alpha), (one.mask, two.mask)):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)
    assert set(one.planes) == set(two.planes)
    assert all(np.array_equal(one.planes[name], two.planes[name]) for name in one.planes)
    assert (one.icc, one.chunks) == (two.icc, two.chunks)


# --- every kind of PNG ---------------------------------------------------------------------------------

KINDS = [
    (1, 0),
    (2, 0),
    (4, 0),
    (8, 0),
    (16, 0),
    (8, 2),
    (16, 2),
    (1, 3),
    (2, 3),
    (4, 3),
    (8, 3),
    (8, 4),
    (16, 4),
    (8, 6),
    (16, 6),
]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 13)])
def test_reads_every_kind_with_every_filter(depth: int, colour: int, interlaced: bool, size: tuple[int, int]) -> None:
    random = np.random.default_rng(depth * 10 + colour)
    samples = random.integers(0, 2**depth, (*size, CHANNELS[colour]))
    palette = random.integers(0, 256, (2**depth, 3)).astype(np.uint8) if colour == 3 else None
    body = [chunk(b"PLTE", palette.tobytes())] if palette is not None else []
    data = encode(samples, depth, colour, interlaced=interlaced, kinds=(4, 3, 2, 1, 0))
    frame = read(png(head(size[1], size[0], depth, colour, int(interlaced)), *body, chunk(b"IDAT", data)))
    if palette is not None:
        expected = palette[samples[..., 0]]
    elif colour in (0, 4):
        scale = 1 if depth >= 8 else 255 // (2**depth - 1)
        expected = np.repeat(samples[..., :1] * scale, 3, axis=2)
    else:
        expected = samples[..., :3]
    assert frame.pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert np.array_equal(frame.pixels, expected)
    if colour in (4, 6):
        assert frame.alpha is not None
        assert np.array_equal(frame.alpha, samples[..., -1])
    else:
        assert frame.alpha is None
    names = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
    suffix = ";16" if depth == 16 else ""
    image = frame.sidecar.image
    assert image is not None
    assert image.mode == {(1, 0): "1", (16, 0): "I;16"}.get((depth, colour), names[colour] + suffix)
    assert image.digest == frame.digest


@pytest.mark.parametrize("bpp", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("kinds", [(4,), (3, 4), (0, 1, 2, 3, 4)])
def test_large_bands_are_unfiltered_like_small_ones(bpp: int, kinds: tuple[int, ...]) -> None:
    random = np.random.default_rng(bpp)
    lines = random.integers(0, 256, (40, 400 * bpp), np.uint8)
    above = random.integers(0, 256, 400 * bpp, np.uint8)
    raw = np.vstack([above[None], lines]).astype(np.int16)
    a, b, c = np.zeros_like(raw), np.zeros_like(raw), np.zeros_like(raw)
    a[:, bpp:], b[1:], c[1:, bpp:] = raw[:, :-bpp], raw[:-1], raw[:-1, :-bpp]
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    predictions = [0 * a, a, b, (a + b) >> 1, np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))]
    band = np.empty((40, 1 + lines.shape[1]), np.uint8)
    for row, kind in zip(range(40), itertools.cycle(kinds)):
        band[row, 0], band[row, 1:] = kind, (raw - predictions[kind])[row + 1].astype(np.uint8)
    whole, apart = np.empty_like(lines), np.empty_like(lines)
    unfilter(np.tile(band, (1, 1)), above, bpp, whole)
    for row in range(40):  # one at a time: below the size where OpenCV is asked
        unfilter(band[row : row + 1], apart[row - 1] if row else above, bpp, apart[row : row + 1])
    assert np.array_equal(whole, lines)
    assert np.array_equal(apart, lines)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_agrees_with_pillow(mode: str) -> None:
    image = Image.fromarray(picture(300, 401))
    if mode == "I;16":
        image = Image.fromarray(picture(300, 401, "uint16")[..., 0])
    elif mode == "LA":
        image = image.convert("RGBA").convert("LA")
    else:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, "png")
    frame = read(file.getvalue())
    expected = np.asarray(image) if mode == "I;16" else np.asarray(image.convert("RGB"))
    assert np.array_equal(frame.pixels[..., 0] if mode == "I;16" else frame.pixels, expected)


def test_transparent_colours_become_alpha() -> None:
    grey = np.array([[[7], [9]]])
    frame = read(png(head(2, 1, 8, 0), chunk(b"tRNS", b"\0\x07"), chunk(b"IDAT", encode(grey, 8, 0))))
    assert frame.alpha is not None
    assert frame.alpha.tolist() == [[0, 255]]
    deep = np.array([[[1, 2, 3], [1, 2, 258]]])
    key = struct.pack(">3H", 1, 2, 258)
    frame = read(png(head(2, 1, 16, 2), chunk(b"tRNS", key), chunk(b"IDAT", encode(deep, 16, 2))))
    assert frame.alpha is not None
    assert frame.alpha.tolist() == [[65535, 0]]
    index = np.array([[[0], [1], [2]]])
    chunks = [chunk(b"PLTE", bytes(range(9))), chunk(b"tRNS", b"\x10\x80")]
    frame = read(png(head(3, 1, 8, 3), *chunks, chunk(b"IDAT", encode(index, 8, 3))))
    assert frame.alpha is not None
    assert frame.alpha.tolist() == [[16, 128, 255]]
    assert frame.pixels.tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]
    assert frame.sidecar.image is not None
    assert frame.sidecar.image.mode == "PA"


def test_data_may_be_cut_into_chunks_anywhere() -> None:
    pixels = picture(20, 30)
    data = encode(pixels, 8, 2, kinds=(4, 2))
    for size in (1, 2, 7, 100):
        parts = [chunk(b"IDAT", data[i : i + size]) for i in range(0, len(data), size)]
        assert np.array_equal(read(png(head(30, 20), *parts, chunk(b"IDAT"))).pixels, pixels)
        assert np.array_equal(read(png(head(30, 20), *parts)).pixels, pixels)


# --- out and in again ----------------------------------------------------------------------------------


TONE = ToneStats(((0.0, 1.0),) * 3, (0.5,) * 3, (0.1,) * 3, (50.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def frames() -> st.SearchStrategy[Frame]:
    def build(rows: int, columns: int, dtype: str, seed: int, parts: tuple[bool, ...], grey: bool, mode: str) -> Frame:
        random = np.random.default_rng(seed)
        pixels = picture(rows, columns, dtype, seed)
        if grey:
            pixels[..., 1] = pixels[..., 2] = pixels[..., 0]
        alpha, mask, hint, icc, extra = parts
        plane = (random.random((rows, columns)) > 0.5).astype(np.uint8) * np.uint8(255)
        frame = Frame(
            pixels,
            alpha=random.integers(0, np.iinfo(dtype).max, (rows, columns), dtype, endpoint=True) if alpha else None,
            mask=plane if mask else None,
            planes={"hint": plane[::-1].copy(), "a-b_2": plane[:, ::-1].copy()} if hint else {},
            icc=bytes(random.integers(0, 256, 500, np.uint8)) if icc else None,
            chunks=(("gAMA", b"\0\0\xb1\x8f"), ("tEXt", b"Author\0K\xf6"), ("prVt", b"x")) if extra else (),
        )
        image = ImageInfo(frame.digest, rows, columns, dtype, mode, "süß ☃.png")
        step = Step("mask", {"rect": (1, 2, 3, 4)}, "sha256:a", frame.digest, outside={"outside_changed": 0})
        regions = (Region(((0.0, 0.5), (1.0, 1.0), (2.0, 2.0)), text="2024 “é”", score=0.25),)
        info = MaskInfo(plane_digest(plane), 0.25, grid=8) if mask else None
        return frame.with_sidecar(image=image, mask=info, tone=TONE, steps=(step,), regions=regions)

    sizes = st.integers(1, 40)
    flags = st.tuples(*[st.booleans()] * 5)
    modes = st.sampled_from(["L", "LA", "1", "RGB", "P", "I;16", "CMYK"])
    dtypes = st.sampled_from(["uint8", "uint16"])
    return st.builds(build, sizes, sizes, dtypes, st.integers(0, 999), flags, st.booleans(), modes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(frames(), min_size=1, max_size=3))
def test_stream_round_trip(sent: list[Frame]) -> None:
    received = list(read_stream(io.BytesIO(b"".join(written(frame) for frame in sent))))
    assert len(received) == len(sent)
    for one, two in zip(sent, received):
        same(one, two)
        assert one.sidecar == two.sidecar
        assert one.digest == two.digest


def test_other_programs_read_what_goes_out() -> None:
    pixels = picture(50, 61)
    mask = np.zeros((50, 61), np.uint8)
    image = Image.open(
        io.BytesIO(
            written(Frame(pixels, mask=mask, icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()))
        )
    )
    assert np.array_equal(np.asarray(image), pixels)
    assert image.info["imgedit"].startswith('{"schema": "imgedit/1"')
    assert image.info["icc_profile"][36:40] == b"acsp"


def test_wide_rows_and_many_bands_round_trip() -> None:
    for shape in ((2, 70_000), (3000, 300), (1, 4000)):
        frame = Frame(picture(*shape))
        same(frame, read(written(frame)))


def test_grey_goes_out_as_grey_while_it_is() -> None:
    source = read(png(head(3, 1, 8, 0), chunk(b"IDAT", encode(np.array([[[1], [2], [3]]]), 8, 0))))
    assert written(source)[25] == 0
    coloured = source.pixels.copy()
    coloured[0, 0] = (1, 2, 3)
    assert written(source.replace(pixels=coloured))[25] == 2
    translucent = source.replace(alpha=np.zeros((1, 3), np.uint8))
    assert written(translucent)[25] == 4
    rgb = read(png(head(1, 1), chunk(b"IDAT", encode(np.array([[[5, 5, 5]]]), 8, 2))))
    assert written(rgb)[25] == 2


def test_a_stream_is_read_lazily() -> None:
    one = written(Frame(picture(200, 200)))

    class Counting(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(buffer)

    file = Counting(one * 3)
    stream = read_stream(file)
    for number in (1, 2, 3):
        next(stream)
        assert file.tell() == number * len(one)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_source_that_gives_little_at_a_time() -> None:
    data = written(Frame(picture(30, 40)))

    class Slow(io.RawIOBase):
        place = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part = data[self.place : self.place + min(len(buffer), 5)]
            buffer[: len(part)] = part
            self.place += len(part)
            return len(part)

    (frame,) = read_stream(Slow())  # type: ignore[arg-type]
    assert np.array_equal(frame.pixels, picture(30, 40))


def test_a_reader_that_went_away_is_not_our_error() -> None:
    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(BrokenPipeError):
        write_stream(Gone(), Frame(picture()))
    with pytest.raises(FileError) as error:
        write_stream(Full(), Frame(picture()))
    assert "full" in error.value.hint


# --- metadata ------------------------------------------------------------------------------------------

IDAT = chunk(b"IDAT", encode(np.array([[[1, 2, 3]]]), 8, 2))


def test_metadata_is_carried_as_it_came() -> None:
    carried = [
        ("gAMA", struct.pack(">I", 45455)),
        ("cICP", bytes([9, 16, 0, 1])),
        ("zTXt", b"Comment\0\0" + zlib.compress(b"hello")),
        ("iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
        ("pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        ("tEXt", b"imgedit\0not ours"),
        ("saFe", b"unknown, safe to copy"),
    ]
    profile = b"profile" * 20
    before = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    chunks = [chunk(kind.encode(), data) for kind, data in carried]
    frame = read(png(head(1, 1), before, *chunks[:4], IDAT, *chunks[4:], chunk(b"tIME", bytes(7)), chunk(b"unSF", b"")))
    assert list(frame.chunks) == carried
    assert frame.icc == profile
    same(frame, read(written(frame)))


def test_wrong_metadata_of_fixed_length_is_dropped_aloud(caplog: pytest.LogCaptureFixture) -> None:
    frame = read(png(head(1, 1), chunk(b"gAMA", b"xy"), IDAT))
    assert frame.chunks == ()
    assert "gAMA" in caplog.text


def test_animations_give_their_first_picture_aloud(caplog: pytest.LogCaptureFixture) -> None:
    read(png(head(1, 1), chunk(b"acTL", struct.pack(">II", 2, 0)), IDAT, chunk(b"fdAT", bytes(4))))
    assert "first" in caplog.text
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "gif", save_all=True, append_images=[Image.new("RGB", (3, 2), "red")])
    caplog.clear()
    assert read(file.getvalue()).columns == 3
    assert "first" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
def test_orientation_is_applied_once_and_neutralised(orientation: int, kind: str) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 250
    pixels[:8, 16:] = 120
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    file = io.BytesIO()
    options = {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    frame = read(file.getvalue())
    turned = {2: "m", 3: "r2", 4: "mr2", 5: "mr1", 6: "r3", 7: "mr3", 8: "r1"}.get(orientation, "")
    expected = np.rot90(pixels[:, ::-1] if "m" in turned else pixels, int(turned[-1]) if turned[-1:].isdigit() else 0)
    assert frame.pixels.shape == expected.shape
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 3
    carried = dict(frame.chunks)
    assert "eXIf" in carried
    assert upright(carried["eXIf"])[0] == 1
    assert b"Maker" in carried["eXIf"]
    same(frame, read(written(frame)))


def test_hostile_exif_says_nothing() -> None:
    assert upright(b"") == (1, b"")
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        for offset, count in ((8, 65535), (0xFFFFFFF0, 1), (9, 1)):
            data = mark + struct.pack(order + "IH", offset, count) + b"\x12\x01" * 3
            assert upright(data) == (1, data)
    assert turn(np.arange(6).reshape(2, 3), 6).tolist() == [[3, 0], [4, 1], [5, 2]]


# --- other formats -------------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("tiff", "L"), ("tiff", "RGB"), ("tiff", "RGBA"), ("bmp", "RGB"), ("gif", "P"), ("ppm", "RGB"), ("tga", "RGBA")],
)
def test_lossless_formats_are_read_exactly(kind: str, mode: str) -> None:
    image = Image.fromarray(picture(9, 11)).convert(mode)
    frame = read(saved(image, kind))
    assert np.array_equal(frame.pixels, np.asarray(image.convert("RGB")))
    assert (frame.alpha is not None) == (mode == "RGBA")
    assert frame.sidecar.image is not None
    assert frame.sidecar.image.mode == mode


def test_sixteen_bits_stay_in_tiff_and_ppm() -> None:
    import cv2

    deep = picture(9, 11, "uint16")
    ok, data = cv2.imencode(".tiff", deep[..., ::-1])
    assert ok
    frame = read(data.tobytes())
    assert np.array_equal(frame.pixels, deep)
    assert frame.sidecar.image is not None
    assert frame.sidecar.image.mode == "RGB;16"
    ppm = b"P6 11 9 65535\n" + deep.astype(">u2").tobytes()
    assert np.array_equal(read(ppm).pixels, deep)
    grey = read(saved(Image.fromarray(deep[..., 0]), "tiff"))
    assert np.array_equal(grey.pixels[..., 1], deep[..., 0])
    assert grey.sidecar.image is not None
    assert grey.sidecar.image.mode == "I;16"
    with pytest.raises(DataError, match="12 bits"):
        read(b"P6 11 9 4095\n" + (deep & 4095).astype(">u2").tobytes())


@pytest.mark.parametrize("array", [np.ones((3, 4), np.float32), np.full((3, 4), 70_000, np.int32)])
def test_more_than_sixteen_bits_are_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError, match="16 bits"):
        read(saved(Image.fromarray(array), "tiff"))


def test_cmyk_is_converted_aloud(caplog: pytest.LogCaptureFixture) -> None:
    frame = read(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "tiff"))
    assert frame.pixels[0, 0].tolist() == [255, 0, 0]
    assert "CMYK" in caplog.text
    assert frame.sidecar.image is not None
    assert frame.sidecar.image.mode == "CMYK"


def test_jpeg_keeps_profile_and_resolution() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frame = read(saved(Image.fromarray(picture()), "jpeg", icc_profile=profile, dpi=(300, 150)))
    assert frame.icc == profile
    assert ("pHYs", struct.pack(">IIB", 11811, 5906, 1)) in frame.chunks


def test_pillows_own_limit_neither_warns_nor_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = saved(Image.new("L", (40, 40)), "tiff")
    assert read(data).rows == 40
    assert Image.MAX_IMAGE_PIXELS == 10
    for pixels in (1599, 700, 1):
        with pytest.raises(DataError) as error:
            read(data, Limits(pixels=pixels))
        assert "--max-pixels" in error.value.hint


class Endless(io.RawIOBase):
    """A pipe that gives *begin*, then zeros, up to *size* bytes; *given* counts them."""

    def __init__(self, begin: bytes, size: int) -> None:
        self.begin, self.size, self.given = begin, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.size - self.given)
        part = self.begin[self.given : self.given + count]
        buffer[:count] = part + bytes(count - len(part))
        self.given += count
        return count


@pytest.mark.parametrize("begin", [b"", b"hello\n" * 20_000, b"\x80\x04\x95", b"%!PS-Adobe-3.0 EPSF-3.0\n"], ids=short)
def test_what_is_no_picture_is_not_read_on(begin: bytes) -> None:
    pipe = Endless(begin, 100 << 20)
    with pytest.raises(DataError, match="no picture"):
        list(read_stream(pipe))  # type: ignore[arg-type]
    assert pipe.given <= 1 << 20


def test_no_more_is_read_than_a_picture_can_need() -> None:
    limits = Limits(pixels=1000)
    pipe = Endless(b"II*\0", 1 << 40)
    with pytest.raises(DataError, match="more than"):
        list(read_stream(pipe, limits))  # type: ignore[arg-type]
    assert pipe.given <= 70 << 20


def test_a_picture_from_a_pipe_is_held_once() -> None:
    size = 30 << 20  # a small picture, and much behind it: what counts is the reading
    pipe = Endless(saved(Image.fromarray(picture()), "bmp"), size)
    tracemalloc.start()
    try:
        (frame,) = read_stream(pipe)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    finally:
        tracemalloc.stop()
    assert np.array_equal(frame.pixels, picture())


@pytest.mark.parametrize("kind", ["bmp", "tiff", "tga", "ppm", "gif", "webp", "jpeg2000"])
def test_pictures_longer_than_the_head_come_whole(kind: str) -> None:
    image = Image.fromarray(picture(400, 300)).convert("P" if kind == "gif" else "RGB")
    data = saved(image, kind, **({"lossless": True} if kind == "webp" else {}))
    assert len(data) > 1 << 16
    assert np.array_equal(read(data).pixels, np.asarray(image.convert("RGB")))


def test_sixteen_bits_become_eight_by_rounding() -> None:
    every = np.arange(65536).reshape(256, 256)
    assert np.array_equal(to_eight(every.astype(np.uint16)), np.rint(every / 257))
    assert to_eight(every.astype(np.uint16)).dtype == np.uint8


def test_postscript_is_never_run() -> None:
    with pytest.raises(DataError):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


# --- malformed input -----------------------------------------------------------------------------------

GOOD = written(
    Frame(
        picture(9, 8),
        mask=np.zeros((9, 8), np.uint8),
        icc=b"profile",
        chunks=(("tEXt", b"a\0b"), ("zTXt", b"a\0\0" + zlib.compress(b"b"))),
    )
)


def refused(data: bytes, limits: Limits | None = None, match: str = ".") -> DataError:
    with pytest.raises(DataError, match=match) as error:
        list(read_stream(io.BytesIO(data), limits))
    assert error.value.message
    assert error.value.hint
    return error.value


def test_cut_anywhere() -> None:
    for size in range(len(GOOD)):
        refused(GOOD[:size])


def places() -> Iterator[tuple[str, int, int]]:
    place = 8
    while place < len(GOOD):
        length, kind = struct.unpack_from(">I4s", GOOD, place)
        yield kind.decode(), place, length
        place += 12 + length


@pytest.mark.parametrize(("kind", "place", "length"), list(places()))
def test_damage_in_any_chunk(kind: str, place: int, length: int) -> None:
    for offset in {8 + length, 8 + length // 2, 4, 0}:
        data = bytearray(GOOD)
        data[place + offset] ^= 0x41
        refused(bytes(data))
    if kind in ("IHDR", "IDAT", "IEND"):
        refused(GOOD[:place] + GOOD[place + 12 + length :])
    if kind in ("IHDR", "IDAT", "iCCP", "plAN"):
        refused(GOOD[: place + 12 + length] + GOOD[place:])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_random_damage_is_refused_or_harmless(damage: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, change in damage:
        data[place] ^= change
    try:
        list(read_stream(io.BytesIO(bytes(data))))
    except ImgeditError as error:
        assert error.exit_code == 65


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["jpeg", "gif", "tiff", "webp", "bmp", "ppm"]), st.data())
def test_random_damage_in_other_formats(kind: str, choice: st.DataObject) -> None:
    whole = saved(Image.fromarray(picture(20, 20)), kind)
    data = bytearray(whole[: choice.draw(st.integers(0, len(whole)))])
    for place in choice.draw(st.lists(st.integers(0, 63), max_size=4)):
        if place < len(data):
            data[place] ^= choice.draw(st.integers(1, 255))
    try:
        list(read_stream(io.BytesIO(bytes(data)), Limits(pixels=10_000_000)))
    except ImgeditError as error:
        assert error.exit_code == 65


@pytest.mark.parametrize(
    "ihdr",
    [
        head(0, 1),
        head(1, 0),
        head(1, 1, 3),
        head(1, 1, 16, 3),
        head(1, 1, 8, 5),
        head(1, 1, 4, 2),
        head(1, 1, 8, 2, 2),
        head(1, 1)[:10] + b"\1\0\0",
        head(1, 1)[:11] + b"\1\0",
        head(1, 1)[:-1],
        head(0xFFFFFFFF, 0xFFFFFFFF),
    ],
    ids=short,
)
def test_headers_that_png_does_not_define(ihdr: bytes) -> None:
    refused(png(ihdr, IDAT))


def test_too_many_pixels_are_refused_before_they_are_allocated() -> None:
    error = refused(png(head(100_000, 100_000), IDAT), match="100000×100000")
    assert error.hint.endswith("--max-pixels 10000000000")
    assert read(png(head(1, 1), IDAT), Limits(pixels=1)).rows == 1


BOMB = zlib.compress(bytes(40 << 20), 9)


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"IDAT", BOMB),
        chunk(b"zTXt", b"a\0\0" + BOMB) + IDAT,
        chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB) + IDAT,
        chunk(b"iTXt", b"imgedit\0\1\0\0\0" + BOMB) + IDAT,
        chunk(b"iCCP", b"a\0\0" + BOMB) + IDAT,
        chunk(b"plAN", b"hint\0" + png(head(1, 1, 8, 0), chunk(b"IDAT", BOMB))) + IDAT,
    ],
    ids=["IDAT", "zTXt", "iTXt", "sidecar", "iCCP", "plane"],
)
def test_bombs(bomb: bytes) -> None:
    data = png(head(1, 1), bomb)
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < (36 << 20)  # two buffers at the limit of 16 MiB, not 40 MiB
    finally:
        tracemalloc.stop()


def test_chunks_above_the_limit() -> None:
    limits = Limits(chunk_bytes=100, sidecar_bytes=100)
    refused(png(head(1, 1), chunk(b"tEXt", b"a\0" + bytes(200)), IDAT), limits, "larger than 100")
    refused(png(head(1, 1), chunk(b"iTXt", b"imgedit\0\0\0\0\0" + bytes(150)), IDAT), limits, "larger than 100")
    refused(png(head(1, 1), chunk(b"tEXt", b"a\0" + bytes(90)) * 5, IDAT), limits, "together")
    refused(png(head(1, 1), chunk(b"tEXt", b"a\0b") * 10_001, IDAT), match="more than 10000 chunks")
    refused(png(head(1, 1), chunk(b"plAN", b"a\0" + bytes(2 << 20)), IDAT), match="larger than the picture")
    refused(SIGNATURE + chunk(b"IHDR", head(1, 1)) + struct.pack(">I4s", 0x7FFFFFFF, b"IDAT") + bytes(2 << 20))


def raw(*rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(b"".join(rows)))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (raw(b"\0abc\0abc\0"), "more picture data"),
        (raw(b"\0abc\0ab"), "too early"),
        (raw(b""), "too early"),
        (chunk(b"IDAT"), "too early"),
        (b"", "no picture data"),
        (raw(b"\0abc\5abc"), "unknown filter"),
        (raw(b"\xffabc\0abc"), "unknown filter"),
        (chunk(b"IDAT", zlib.compress(b"\0abc\0abc") + b"x"), "more picture data"),
        (chunk(b"IDAT", zlib.compress(b"\0abc\0abc")[:-4] + bytes(4)), "cannot be inflated"),
        (chunk(b"IDAT", zlib.compress(b"\0abc\0abc")[:-1]), "too early"),
        (chunk(b"IDAT", b"garbage!"), "cannot be inflated"),
        (chunk(b"IDAT", zlib.compress(b"\0abc")) + chunk(b"tEXt", b"a\0b") + raw(b"\0abc"), "too early"),
        (raw(b"\0abc\0abc") + chunk(b"tEXt", b"a\0b") + raw(b""), "IDAT"),
        (raw(b"\0abc\0abc") + chunk(b"tRNS", bytes(6)), "after the picture data"),
        (chunk(b"tRNS", b"ab") + raw(b"\0abc\0abc"), "tRNS"),
        (chunk(b"XXXX") + raw(b"\0abc\0abc"), "XXXX"),
        (chunk(b"tE1t", b"a\0b") + raw(b"\0abc\0abc"), "no PNG chunk"),
        (chunk(b"tEXt", b"no keyword") + raw(b"\0abc\0abc"), "keyword"),
        (chunk(b"iTXt", b"a\0\2\0\0\0x") + raw(b"\0abc\0abc"), "malformed"),
        (chunk(b"iTXt", b"a\0\0\0x") + raw(b"\0abc\0abc"), "malformed"),
        (chunk(b"zTXt", b"a\0\1x") + raw(b"\0abc\0abc"), "compression"),
        (chunk(b"zTXt", b"a\0\0xyz") + raw(b"\0abc\0abc"), "inflated"),
        (chunk(b"iCCP", b"a\0\1x") + raw(b"\0abc\0abc"), "iCCP"),
        (chunk(b"iCCP", b"a\0\0" + zlib.compress(b"abc")[:-2]) + raw(b"\0abc\0abc"), "incomplete"),
    ],
    ids=short,
)
def test_malformed_chunks(body: bytes, what: str) -> None:
    refused(png(head(1, 2), body), match=what)


def test_malformed_palettes() -> None:
    data = chunk(b"IDAT", encode(np.array([[[3]]]), 8, 3))
    refused(png(head(1, 1, 8, 3), data), match="PLTE")
    refused(png(head(1, 1, 8, 3), chunk(b"PLTE", bytes(9)), data), match="beyond the palette")
    for size in (0, 4, 771):
        refused(png(head(1, 1, 8, 3), chunk(b"PLTE", bytes(size)), data), match="palette")
    refused(png(head(1, 1, 8, 3), chunk(b"PLTE", bytes(12)), chunk(b"tRNS", bytes(5)), data), match="palette")


PLANE = png(head(1, 1, 8, 0), chunk(b"IDAT", encode(np.array([[[9]]]), 8, 0)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hint",
        b"\0" + PLANE,
        b"../../x\0" + PLANE,
        b"Mask\0" + PLANE,
        b"a" * 33 + b"\0" + PLANE,
        b"h\xff\0" + PLANE,
        b"hint\n\0" + PLANE,
        b"hint\0",
        b"hint\0not a png",
        b"hint\0" + PLANE[:-3],
        b"hint\0" + PLANE + b"x",
        b"hint\0" + PLANE[:8],
        b"hint\0" + png(head(1, 1), IDAT),
        b"hint\0" + png(head(2, 1, 8, 0), chunk(b"IDAT", encode(np.array([[[9], [9]]]), 8, 0))),
        b"hint\0" + png(head(60000, 60000, 8, 0), chunk(b"IDAT", BOMB)),
        b"hint\0" + png(head(1, 1, 8, 0), chunk(b"tRNS", b"\0\x09"), chunk(b"IDAT", encode(np.array([[[9]]]), 8, 0))),
        b"hint\0sha256:xyz",
    ],
    ids=short,
)
def test_hostile_planes(data: bytes) -> None:
    refused(png(head(1, 1), chunk(b"plAN", data), IDAT))


def test_planes_twice_or_too_many() -> None:
    plane = chunk(b"plAN", b"hint\0" + PLANE)
    frame = read(png(head(1, 1), plane, IDAT))
    assert frame.planes["hint"].tolist() == [[9]]
    refused(png(head(1, 1), plane, plane, IDAT), match="twice")
    many = [chunk(b"plAN", f"p{number}\0".encode() + PLANE) for number in range(9)]
    assert len(read(png(head(1, 1), *many[:8], IDAT)).planes) == 8
    refused(png(head(1, 1), *many, IDAT), match="more than 8 planes")
    with pytest.raises(DataError, match="9 planes"):  # what could not be read again does not go out
        written(Frame(picture(), planes={f"p{number}": np.zeros((6, 7), np.uint8) for number in range(9)}))


def test_planes_together_count_against_the_limit_of_pixels() -> None:
    grey = png(head(10, 10, 8, 0), chunk(b"IDAT", encode(np.zeros((10, 10, 1), np.uint8), 8, 0)))
    many = [chunk(b"plAN", f"p{number}\0".encode() + grey) for number in range(4)]
    colours = chunk(b"IDAT", encode(picture(10, 10), 8, 2))
    assert len(read(png(head(10, 10), *many[:3], colours), Limits(pixels=100)).planes) == 3
    error = refused(png(head(10, 10), *many, colours), Limits(pixels=100), "4 planes")
    assert error.hint.endswith("--max-pixels 134")
    assert len(read(png(head(10, 10), *many, colours), Limits(pixels=134)).planes) == 4
    # a large picture is refused for its planes before one of them is decoded
    zeros = zlib.compress(bytes(4001 * 4000), 9)
    large = chunk(b"IDAT", zeros)
    plane = b"\0" + png(head(4000, 4000, 8, 0), large)
    data = png(head(4000, 4000, 8, 0), *(chunk(b"plAN", b"p%d" % i + plane) for i in range(5)), large)
    tracemalloc.start()
    try:
        refused(data, Limits(pixels=16_000_000), "4 planes of 4000×4000")
        assert tracemalloc.get_traced_memory()[1] < (8 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"hello world, this is text",
        SIGNATURE[:5],
        SIGNATURE,
        b"\0" * 1000,
        b"\xff\xd8\xff",
        b"II*\0",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"{}",
    ],
    ids=short,
)
def test_no_pictures(data: bytes) -> None:
    refused(data)


def test_garbage_between_frames_is_named() -> None:
    one = written(Frame(picture()))
    stream = read_stream(io.BytesIO(one + one + b"garbage"))
    next(stream)
    next(stream)
    with pytest.raises(DataError, match="after 2 picture"):
        next(stream)
    refused(one + one[:100], match="picture 2")


# --- sidecars that lie ---------------------------------------------------------------------------------


def with_text(text: bytes) -> bytes:
    return png(head(1, 1), chunk(b"iTXt", b"imgedit\0\0\0\0\0" + text), IDAT)


IMAGE = b'"image": {"digest": "sha256:0", "rows": 1, "columns": 1, "dtype": "uint8", "mode": "RGB"}'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"{}",
        b'{"schema": "imgedit/2", ' + IMAGE + b"}",
        b'{"schema": "imgedit/1"}',
        b'{"schema": "imgedit/1", "surprise": 1, ' + IMAGE + b"}",
        b'{"schema": "imgedit/1", "regions": 3, ' + IMAGE + b"}",
        b'{"schema": "imgedit/1", "image": {"digest": 1}}',
        b'{"schema": "imgedit/1", "metrics": {"a": NaN}, ' + IMAGE + b"}",
        b'{"schema": "imgedit/1", "metrics": {"a": 1e999}, ' + IMAGE + b"}",
        b'{"schema": "imgedit/1", "metrics": {"a": "\\ud800"}, ' + IMAGE + b"}",
        b'{"schema": "imgedit/1", "metrics": {"a": ' + b"[" * 60 + b"]" * 60 + b"}, " + IMAGE + b"}",
        b'{"schema": "imgedit/1", "metrics": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}, " + IMAGE + b"}",
        b'{"schema": "imgedit/1", "metrics": {"a": ' + b"9" * 10_000 + b"}, " + IMAGE + b"}",
        b'{"schema": "imgedit/1", "steps": [{"stage": "mask"}], ' + IMAGE + b"}",
    ],
    ids=short,
)
def test_hostile_sidecars(text: bytes) -> None:
    refused(with_text(text))


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 100_000, b'{"a": "' + b'\\"' * 100_000, b'["\\"", ' * 40_000], ids=short
)
def test_hostile_sidecars_take_no_time(text: bytes) -> None:
    start = time.process_time()
    refused(with_text(text))
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("lists", "good"), [(46, True), (47, False), (200, False)])
@pytest.mark.parametrize("place", ["metrics", "params"])
def test_nesting_is_limited(place: str, lists: int, good: bool) -> None:
    frame = Frame(picture())
    value: Any = 1
    for _ in range(lists - (2 if place == "params" else 0)):  # the list of steps and the step lie round it
        value = [value]
    image = ImageInfo(frame.digest, 6, 7, "uint8", "RGB")
    step = Step("mask", {"a": value}, "sha256:a", frame.digest)
    sidecar = Sidecar(image, metrics={"a": value}) if place == "metrics" else Sidecar(image, steps=(step,))
    data = written(frame.replace(sidecar=sidecar))
    if good:
        assert read(data).sidecar.image == image
    else:
        refused(data, match="nested more than 48 deep")


def changed(data: bytes, *keys: str, value: str) -> bytes:
    """Return the frame in *data* with another value in its sidecar."""
    place = data.index(b"iTXtimgedit\0") - 4
    (length,) = struct.unpack_from(">I", data, place)
    text = json.loads(data[place + 20 : place + 8 + length])
    inner = text
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    new = chunk(b"iTXt", b"imgedit\0\0\0\0\0" + json.dumps(text).encode())
    return data[:place] + new + data[place + 12 + length :]


@pytest.mark.parametrize("convention", ["0=change", "", "255=Change", "x\x1b[31m"])
def test_a_mask_that_means_something_else_is_refused(convention: str) -> None:
    data = written(Frame(picture(), mask=np.zeros((6, 7), np.uint8)))
    assert read(changed(data, "mask", "convention", value="255=change")).mask is not None
    error = refused(changed(data, "mask", "convention", value=convention), match="mask")
    assert "\x1b" not in error.message


@pytest.mark.parametrize("mode", ["", "rgb", "RGB\n", "RGB\x1b[2J", "RGB" * 10_000, "F"])
def test_a_mode_that_no_picture_has_is_refused(mode: str) -> None:
    data = written(Frame(picture()))
    for known in MODES:
        image = read(changed(data, "image", "mode", value=known)).sidecar.image
        assert image is not None
        assert image.mode == known
    error = refused(changed(data, "image", "mode", value=mode), match="mode")
    assert "\x1b" not in error.message
    assert len(error.message) < 150


def test_tone_belongs_to_the_mask_it_was_measured_outside(caplog: pytest.LogCaptureFixture) -> None:
    one, other = np.zeros((6, 7), np.uint8), np.full((6, 7), 255, np.uint8)
    frame = Frame(picture())
    image = ImageInfo(frame.digest, 6, 7, "uint8", "RGB")
    info = MaskInfo(plane_digest(one), 0.0, grid=8)
    for mask, recorded in ((other, info), (None, info), (other, None)):
        back = read(written(frame.replace(mask=mask).with_sidecar(image=image, mask=recorded, tone=TONE)))
        assert back.sidecar.tone is None
        assert back.sidecar.mask == (None if mask is None else MaskInfo(plane_digest(mask), 1.0))
        assert "mask" in caplog.text
        caplog.clear()
    for mask, recorded in ((one, info), (None, None)):
        back = read(written(frame.replace(mask=mask).with_sidecar(image=image, mask=recorded, tone=TONE)))
        assert (back.sidecar.tone, back.sidecar.mask) == (TONE, recorded)
        assert caplog.text == ""


def test_a_sidecar_twice() -> None:
    text = chunk(b"iTXt", b"imgedit\0\0\0\0\0{}")
    refused(png(head(1, 1), text, text, IDAT), match="two sidecars")


def test_a_sidecar_of_other_pixels_keeps_only_history(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    frame = Frame(picture(), mask=np.zeros((6, 7), np.uint8))
    step = Step("mask", {}, "sha256:a", frame.digest)
    image = ImageInfo(frame.digest, 6, 7, "uint8", "P", "photo.gif")
    regions = (Region(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),)
    frame = frame.with_sidecar(image=image, steps=(step,), regions=regions, metrics={"psnr": 30.0})
    other = read(written(frame.replace(pixels=picture(seed=1))))
    assert [each.stage for each in other.sidecar.steps] == ["mask", "external"]
    last = other.sidecar.steps[-1]
    assert (last.source, last.result) == (frame.digest, other.digest)
    assert other.mask is not None
    assert other.sidecar == Sidecar(
        image=ImageInfo(other.digest, 6, 7, "uint8", "RGB", "photo.gif"),
        mask=MaskInfo(plane_digest(other.mask), 0.0),
        steps=other.sidecar.steps,
    )
    assert "another program" in caplog.text
    again = read(written(other))
    assert again.sidecar == other.sidecar


def test_a_sidecar_that_contradicts_itself() -> None:
    frame = Frame(picture())
    image = ImageInfo(frame.digest, 7, 6, "uint8", "RGB")
    refused(written(frame.with_sidecar(image=image)), match="contradicts")


def test_a_fresh_frame_describes_its_mask() -> None:
    frame = read(png(head(1, 1), chunk(b"plAN", b"mask\0" + PLANE), IDAT))
    assert frame.mask is not None
    assert frame.sidecar.mask is not None
    assert frame.sidecar.mask.digest == plane_digest(frame.mask)
    assert frame.sidecar.mask.coverage == 1.0
    third = np.array([[0, 0, 255]], np.uint8)
    bare = read(written(Frame(np.zeros((1, 3, 3), np.uint8), mask=third)))
    assert bare.sidecar.mask == MaskInfo(plane_digest(third), 0.333333)


def test_names_that_cannot_be_planes_do_not_go_out() -> None:
    plane = np.zeros((6, 7), np.uint8)
    for name in ("../x", "mask", "", "A"):
        with pytest.raises(DataError):
            written(Frame(picture(), planes={name: plane}))
    with pytest.raises(DataError):
        written(Frame(picture(), chunks=(("IDAT", b""),)))
