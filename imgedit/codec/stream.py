"""Frames ↔ streams of bytes: each frame one self-contained PNG, one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import re
from typing import TYPE_CHECKING, BinaryIO

from imgedit.codec import chunks, exif, png
from imgedit.codec.atomic import file_error
from imgedit.codec.chunks import SIGNATURE, Source
from imgedit.codec.limits import MOST_PLANES, Limits, damaged, is_plane_name
from imgedit.codec.png import PLANE, Picture
from imgedit.codec.samples import GREY, RGB, RGBA, Header, header_for
from imgedit.codec.trust import fresh, parse_sidecar, settle
from imgedit.errors import DataError, OutOfMemory
from imgedit.frame import Frame, plane_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imgedit.frame import Plane, Sidecar

log = logging.getLogger("imgedit")

MASK = "mask"
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_EMBEDDED_HINT = "strip it: any image editor that saves the picture anew leaves the sidecar out"
_PIPE_BYTES = 1 << 20


def read_stream(file: BinaryIO, limits: Limits | None = None, name: str | None = "-") -> Iterator[Frame]:
    """Yield the frames of *file*, one at a time: PNGs back to back, or one picture of another format.

    Memory does not grow with their number. Raises DataError for an empty, damaged or too large input and
    for anything but a PNG after a PNG; FileError when reading fails.
    """
    limits = limits or Limits()
    shown, source_name = ("standard input", None) if name in (None, "-") else (str(name), str(name))
    _widen(file)
    head, number = Source(file, shown).read(8), 1
    if head != SIGNATURE:
        yield _read_foreign(Source(file, shown), head, limits, source_name)
        return
    while head:
        source = Source(file, shown if number == 1 else f"{shown}, picture {number}")
        if head != SIGNATURE:
            raise damaged(source.name, f"after {number - 1} picture(s) comes something that is no PNG")
        with out_of_memory(source.name):
            picture = png.read_png(source, limits)
            frame, beside = assemble(picture, limits, source.name)
        if beside:
            log.warning(
                "%s: %s in files beside the picture: name its file instead of standard input",
                source.name,
                " and ".join(sorted(beside)) + (" lies" if len(beside) == 1 else " lie"),
            )
        yield settle(frame, embedded_sidecars(picture, source.name), picture.mode, source_name, source.name)
        del picture, frame  # not while the next one is read
        head, number = source.read(8), number + 1


def write_stream(file: BinaryIO, frame: Frame) -> None:
    """Write *frame* as one self-contained PNG, fast rather than small: for pipes.

    BrokenPipeError passes through when the reader went away; any other failure is a FileError.
    """
    _widen(file)
    frame = identified(frame)
    planes = [(PLANE, name.encode() + b"\0" + plane_png(plane)) for name, plane in all_planes(frame).items()]
    before = [*metadata(frame), ("iTXt", chunks.pack_sidecar(frame.sidecar.to_json()))]
    try:
        png.write_png(file, header_for(frame), frame.pixels, frame.alpha, before=before, after=planes, compact=False)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise file_error(error, "standard output", "written") from None


def _read_foreign(source: Source, head: bytes, limits: Limits, source_name: str | None) -> Frame:
    from imgedit.codec import foreign

    if not head:
        raise DataError(f"{source.name}: the input is empty", "give a picture: `imgedit CMD in.png`, or pipe one in")
    with out_of_memory(source.name):
        picture = foreign.read(foreign.collect(source, head, limits), limits, source.name)
        frame, _ = assemble(picture, limits, source.name)
    return settle(frame, [], picture.mode, source_name, source.name)


def _widen(file: BinaryIO) -> None:
    """Let a pipe hold a megabyte: fewer turns between reader and writer. Nothing where it is no pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        fcntl.fcntl(file.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


@contextlib.contextmanager
def out_of_memory(name: str) -> Iterator[None]:
    """Turn MemoryError into the error that a person can act on."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory(
            f"{name}: not enough memory for this picture", "close other programs, or --max-pixels"
        ) from None


# --- from a picture to a frame -------------------------------------------------------------------------


def assemble(picture: Picture, limits: Limits, name: str) -> tuple[Frame, dict[str, str]]:
    """Return the frame of *picture*, upright, with its embedded planes, the sidecar not yet settled.

    The second value: name → digest of the planes that lie in files beside.
    """
    orientation, carried = 1, []
    for kind, data in picture.chunks:
        if kind == "eXIf":
            orientation, data = exif.upright(data)  # noqa: PLW2901
        carried.append((kind, data))
    planes, beside = _planes(picture, limits, name)
    pixels, alpha = picture.pixels, picture.alpha
    if orientation != 1:
        pixels = exif.turn(pixels, orientation)
        alpha = None if alpha is None else exif.turn(alpha, orientation)
        planes = {key: exif.turn(plane, orientation) for key, plane in planes.items()}
    mask = planes.pop(MASK, None)
    return Frame(pixels, alpha, mask, planes, picture.icc, tuple(carried)), beside


def _planes(picture: Picture, limits: Limits, name: str) -> tuple[dict[str, Plane], dict[str, str]]:
    planes: dict[str, Plane] = {}
    beside: dict[str, str] = {}
    for data in picture.planes:
        raw, nul, body = data.partition(b"\0")
        key = raw.decode("ascii", "replace")
        if not nul or not is_plane_name(key):
            raise damaged(name, "an embedded plane has no proper name")
        if key in planes or key in beside:
            raise damaged(name, f"the plane {key!r} stands there twice")
        if _DIGEST.fullmatch(body):
            beside[key] = body.decode("ascii")
        else:
            planes[key] = _plane(body, picture, limits, f"{name}, plane {key!r}")
    return planes, beside


def _plane(data: bytes, picture: Picture, limits: Limits, name: str) -> Plane:
    rows, columns = picture.pixels.shape[:2]

    def check(header: Header) -> None:
        if (header.rows, header.columns) != (rows, columns):
            raise damaged(name, f"is {header.columns}×{header.rows}, the picture {columns}×{rows}")
        if (header.colour, header.depth) != (GREY, 8):
            raise damaged(name, "is not 8-bit grey")

    file = io.BytesIO(data)
    if file.read(8) != SIGNATURE:
        raise damaged(name, "is no PNG")
    plane = png.read_png(Source(file, name), limits, check)
    if plane.alpha is not None or file.read(1):
        raise damaged(name, "is more than one grey picture")
    return plane.pixels


def embedded_sidecars(picture: Picture, name: str) -> list[Sidecar]:
    """Return the sidecar inside *picture*: one or none."""
    return [] if picture.sidecar is None else [parse_sidecar(picture.sidecar, name, _EMBEDDED_HINT)]


# --- from a frame to chunks ----------------------------------------------------------------------------


def identified(frame: Frame) -> Frame:
    """Return *frame* with a sidecar that says which picture it is about."""
    if frame.sidecar.image is not None:
        return frame
    return fresh(frame, "RGB" if frame.alpha is None else "RGBA", None)


def all_planes(frame: Frame) -> Mapping[str, Plane]:
    """Return the mask, where there is one, and the planes, by name; DataError for a wrong name or too many."""
    for name in frame.planes:
        if not is_plane_name(name) or name == MASK:
            raise DataError(f"{name!r} is no name for a plane", "use a-z, 0-9, - and _, beginning with a letter")
    planes = dict(frame.planes) if frame.mask is None else {MASK: frame.mask, **frame.planes}
    if len(planes) > MOST_PLANES:
        raise DataError(f"{len(planes)} planes: a file holds {MOST_PLANES}", "leave some out of Frame.planes")
    return planes


def metadata(frame: Frame) -> list[tuple[str, bytes]]:
    """Return the chunks that carry the colour profile and what came with the picture."""
    for kind, _ in frame.chunks:
        if not png.carries(kind):
            raise DataError(f"chunk {kind!r} cannot be carried", "leave it out of Frame.chunks")
    header, icc = header_for(frame), frame.icc
    if icc and icc[16:20] == b"GRAY" and header.colour in (RGB, RGBA):
        log.warning("the colour profile is one for grey pictures; this picture is no longer grey")
    return [*([("iCCP", chunks.pack_profile(icc))] if icc is not None else []), *frame.chunks]


def plane_png(plane: Plane) -> bytes:
    """Return a (rows, columns) uint8 *plane* as a small grey PNG."""
    file = io.BytesIO()
    write_plane(file, plane)
    return file.getvalue()


def write_plane(file: BinaryIO, plane: Plane) -> None:
    """Write a (rows, columns) uint8 *plane* as a small grey PNG."""
    png.write_png(file, Header(plane.shape[0], plane.shape[1], 8, GREY), plane, None, compact=True)


def references(frame: Frame) -> list[tuple[str, bytes]]:
    """Return the chunks that say which planes lie in files beside the picture, by digest."""
    planes = all_planes(frame).items()
    return [(PLANE, name.encode() + b"\0" + plane_digest(plane).encode()) for name, plane in planes]
