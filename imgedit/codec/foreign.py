"""Pictures that only Pillow reads: JPEG, WebP, TIFF, GIF, …; 16-bit colour by OpenCV, which keeps it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import struct
import threading
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from imgedit import spill
from imgedit.codec import strips
from imgedit.codec.limits import MIB, Limits, damaged
from imgedit.codec.pieces import gathered, load
from imgedit.codec.png import Picture
from imgedit.codec.samples import MODES
from imgedit.errors import DataError, ImgeditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

    from imgedit.codec.chunks import Source
    from imgedit.codec.pieces import Made

log = logging.getLogger("imgedit")

#: EPS would run another program; the others are only placeholders for plugins; PNG is read here, not there
_REFUSED = {"PNG", "EPS", "WMF", "FPX", "MIC", "BUFR", "GRIB", "HDF5", "MPEG", "PDF"}
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[1-8]")
#: what is carried of a TIFF's own tags: description, make, model, software, date, artist, copyright
_TIFF_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_EXIF_IFD, _GPS_IFD, _BITS = 0x8769, 0x8825, 0x0102
_DEEP_HINT = "convert it first, for instance: `convert in.tif -depth 16 out.png`"
_LOCK = threading.Lock()
#: how much of a pipe is read before something in it must look like a picture
_HEAD = 1 << 16


def collect(source: Source, begin: bytes, limits: Limits) -> io.BytesIO:
    """Return the rest of a pipe, whose first bytes *begin* have been read, as a file that can be sought in.

    Raises DataError as soon as it is known: after 64 KiB when no format begins so, and beyond what the
    largest picture can need.
    """
    data = io.BytesIO()
    data.write(begin + source.read(_HEAD - len(begin)))
    with _guarded(limits, source.name):
        _identify(data.getvalue())
    # eight bytes for each pixel, uncompressed, and metadata
    most = 8 * limits.pixels + 64 * MIB
    while part := source.read(MIB):
        data.write(part)
        if data.tell() > most:
            raise DataError(f"{source.name}: more than {most:,} bytes and no PNG", "give a picture, or --max-pixels")
    data.seek(0)
    return data


def read(file: BinaryIO, limits: Limits, name: str) -> Picture:
    """Read the first picture of a seekable *file* in any format but PNG.

    Raises DataError for what is no picture, damaged, too large (checked before decoding), or deeper than
    16 bits. Metadata that PNG can carry (profile, EXIF, XMP, resolution) is carried.
    """
    with _guarded(limits, name) as caught:
        picture = _read(file, limits, name)
    for text in dict.fromkeys(str(item.message) for item in caught):
        log.warning("%s: %s", name, text)
    return picture


@contextlib.contextmanager
def _guarded(limits: Limits, name: str) -> Iterator[list[warnings.WarningMessage]]:
    """Hold Pillow to the limits; collect its warnings; turn whatever it raises into a DataError."""
    from PIL import Image, UnidentifiedImageError

    with _LOCK, warnings.catch_warnings(record=True) as caught:  # Pillow's limit and its warnings are global
        warnings.simplefilter("always")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limits.pixels
        try:
            yield caught
        except (ImgeditError, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise DataError(
                f"{name}: the picture has more than {limits.pixels:,} pixels", "if you trust it: --max-pixels N"
            ) from None
        except UnidentifiedImageError:
            raise DataError(f"{name} is no picture", "give a PNG, JPEG, WebP, TIFF, …") from None
        except Exception as error:  # whatever hostile data make a decoder raise
            raise damaged(name, f"the picture cannot be decoded: {str(error)[:200] or type(error).__name__}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _formats(begin: bytes) -> list[str]:
    """Return the formats that a file with this beginning may have, for Pillow."""
    from PIL import Image

    Image.preinit()
    if begin[:2] != b"\xff\xd8":  # JPEG is among the few that preinit() knows
        Image.init()
    return [kind for kind in Image.ID if kind not in _REFUSED]


def _identify(head: bytes) -> None:
    """Raise UnidentifiedImageError when no format begins like *head*.

    Most can tell by their first bytes; the few that have no signature by their header, which lies in front.
    """
    from PIL import Image

    shy = []
    for kind in _formats(head):
        accept = Image.OPEN[kind][1]
        if accept is None:
            shy.append(kind)
            continue
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open() does
            if accept(head[:16]):
                return
    Image.open(io.BytesIO(head), formats=shy).close()


def _read(file: BinaryIO, limits: Limits, name: str) -> Picture:
    from PIL import Image

    formats = _formats(file.read(2))
    file.seek(0)
    with Image.open(file, formats=formats) as image:
        columns, rows = image.size
        limits.check_size(rows, columns, name)
        kind, mode = str(image.format), image.mode
        deep = _bits(image, file) > 8 and mode in ("RGB", "RGBA", "RGBX", "RGBa")
        if _in_strips(image, file, kind, deep):
            pixels, alpha = gathered(rows, _by_strips(image, file, deep, name))
            mode = ("RGB;16" if alpha is None else "RGBA;16") if deep else mode
        elif deep:
            pixels, alpha, mode = _deep(image, file, name)
        else:
            place = load(image, kind)
            limits.check_size(image.height, image.width, name)
            pixels, alpha = _arrays(image, kind, name, place)
        chunks, icc = _metadata(image, kind, limits, name)
        if mode in ("CMYK", "LAB"):
            icc = None  # it spoke of the colours before
        if getattr(image, "is_animated", False):
            log.warning("%s: there is more than one picture in it; the first is used", name)
    return Picture(pixels, alpha, _name(mode, image.info), icc, chunks)


def _name(mode: str, info: dict[Any, Any]) -> str:
    base = {"I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16", "I": "I;16", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
    mode = base.get(mode, mode)
    mode += "A" if "transparency" in info and mode in ("L", "RGB", "P") else ""
    return mode if mode in MODES else "RGB"


def _arrays(image: Image, kind: str, name: str, place: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return pixels and alpha of a loaded *image*, which lies in *place* if that is given; made some rows at a time."""
    mode = image.mode
    if mode == "F" or (mode == "I" and _wide(image, kind)):
        raise DataError(f"{name}: more than 16 bits per channel ({mode})", _DEEP_HINT)
    if mode in ("CMYK", "LAB"):
        image, place = _to_srgb(image, name), None
    columns, rows = image.size
    if place is None and rows * columns <= spill.PART:
        return _of_rows(image)

    def some() -> Iterator[tuple[int, int, Made]]:
        step = max(1, spill.PART // columns)
        for top in range(0, rows, step):
            bottom = min(top + step, rows)
            yield top, bottom, _of_rows(image.crop((0, top, columns, bottom)))
            if place is not None:
                spill.let_go(place[top:bottom])

    return gathered(rows, some())


def _in_strips(image: Image, file: BinaryIO, kind: str, deep: bool) -> bool:
    """Tell whether a large picture can be read by strips, each for itself."""
    large = spill.is_large(image.width * image.height * (6 if deep else 3))
    return kind == "TIFF" and large and image.mode not in ("F", "I", "CMYK", "LAB") and strips.readable(image, file)


def _by_strips(image: Image, file: BinaryIO, deep: bool, name: str) -> Iterator[tuple[int, int, Made]]:
    """Yield first row, last row, pixels and alpha of some strips of a TIFF at a time."""
    from PIL import Image as PillowImage

    for top, bottom, part in strips.parts(image, file, spill.PART):
        with PillowImage.open(part, formats=["TIFF"]) as some:
            if some.mode != image.mode or some.size != (image.width, bottom - top):
                raise damaged(name, "its strips are not of its size")
            if deep:
                yield top, bottom, _deep(some, part, name)[:2]
                continue
            some.load()
            yield top, bottom, _of_rows(some)


def _of_rows(image: Image) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return pixels and alpha of some rows."""
    mode = image.mode
    if mode.startswith("I"):
        return _split(np.asarray(image).astype(np.uint16)[..., None])
    if mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info or mode == "PA" else "RGB")
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
    samples = np.asarray(image)
    return _split(samples if samples.ndim == 3 else samples[..., None])


def _wide(image: Image, kind: str) -> bool:
    """Tell whether a picture of mode I holds values beyond 16 bits."""
    bits = getattr(image, "tag_v2", {}).get(_BITS, (16,))
    low, high = image.getextrema()
    return (kind == "TIFF" and max(bits) > 16) or int(low) < 0 or int(high) > 65535  # type: ignore[arg-type]


def _split(samples: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return (rows, columns, 1…4 channels) as RGB pixels and alpha."""
    channels = samples.shape[2]
    if channels == 3:
        return np.ascontiguousarray(samples), None
    pixels = np.empty((*samples.shape[:2], 3), samples.dtype)
    for channel in range(3):
        pixels[..., channel] = samples[..., channel if channels > 2 else 0]
    return pixels, np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None


def _to_srgb(image: Image, name: str) -> Image:
    """Convert CMYK or LAB by its profile; without one, CMYK as Pillow does."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and not profile:
        log.warning("%s: CMYK without a profile: converted to RGB by formula", name)
        return image.convert("RGB")
    log.warning("%s: %s converted to sRGB; its own profile is not carried", name, image.mode)
    own = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
    converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        raise ValueError("the colour profile cannot be used")
    return converted


def _bits(image: Image, file: BinaryIO) -> int:
    """Return the bits per channel that the header states, where Pillow would make 8 of more."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS, (1,))))  # type: ignore[attr-defined]
    file.seek(0)
    head = file.read(1 << 16)
    file.seek(0)
    if image.format == "PPM":
        found = re.match(rb"P6\s+(?:#[^\n]*\s+)*\d+\s+(?:#[^\n]*\s+)*\d+\s+(?:#[^\n]*\s+)*(\d+)", head)
        most = int(found[1]) if found else 255
        return 8 if most <= 255 else 16 if most == 65535 else 12
    start = head.find(b"\xff\x4f\xff\x51") if image.format == "JPEG2000" else -1
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 8


def _deep(image: Image, file: BinaryIO, name: str) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """Return 16-bit pixels, alpha and mode by OpenCV; DataError where that cannot keep the depth."""
    import cv2

    bits = _bits(image, file)
    file.seek(0)
    level = cv2.utils.logging.setLogLevel(0)  # damage is our own error, not a line of OpenCV's on stderr
    try:
        whole = file.getbuffer() if isinstance(file, io.BytesIO) else file.read()
        data: NDArray[Any] | None = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    columns, rows = image.size
    if data is None or data.dtype != np.uint16 or data.ndim != 3 or bits != 16 or image.mode == "RGBa":
        raise DataError(f"{name}: its {bits} bits per channel cannot be kept", _DEEP_HINT)
    if data.shape[:2] != (rows, columns):
        raise damaged(name, "the picture has another size than its header says")
    channels = data.shape[2]
    rgb = cv2.cvtColor(data, cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGBA)
    return *_split(rgb), "RGB;16" if channels == 3 else "RGBA;16"


def _metadata(image: Image, kind: str, limits: Limits, name: str) -> tuple[list[tuple[str, bytes]], bytes | None]:
    """Return what PNG can carry of a picture's metadata, and its colour profile."""
    info, chunks = image.info, []
    dpi = info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(value) < 1e7 for value in dpi):
        chunks.append(("pHYs", struct.pack(">IIB", *(round(float(value) / 0.0254) for value in dpi), 1)))
    exif = _tiff_exif(image) if kind == "TIFF" else info.get("exif")
    if isinstance(exif, bytes) and exif:
        chunks.append(("eXIf", exif.removeprefix(b"Exif\0\0")))
    xmp = info.get("xmp")
    if isinstance(xmp, bytes) and xmp:
        chunks.append(("iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + _XMP_ORIENTATION.sub(rb"\g<1>1", xmp.rstrip(b"\0"))))
    icc = info.get("icc_profile") or None
    for what, data in (*chunks, ("profile", icc or b"")):
        if len(data) > limits.chunk_bytes:
            raise damaged(name, f"its metadata ({what}) is larger than {limits.chunk_bytes:,} bytes")
    return chunks, icc if isinstance(icc, bytes) else None


def _tiff_exif(image: Image) -> bytes:
    """Return the describing part of a TIFF's tags as EXIF: not those that say how its pixels are stored."""
    from PIL import Image as PillowImage

    own, kept = image.getexif(), PillowImage.Exif()
    for tag in _TIFF_TAGS:
        if tag in own:
            kept[tag] = own[tag]
    for tag in (_EXIF_IFD, _GPS_IFD):
        entries = own.get_ifd(tag)
        if entries:
            kept.get_ifd(tag).update(entries)
    return kept.tobytes() if len(kept) or any(kept.get_ifd(tag) for tag in (_EXIF_IFD, _GPS_IFD)) else b""
