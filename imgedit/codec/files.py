"""Frames ↔ files: ``x.png``, ``x.png.json``, ``x.mask.png``, …, written whole and in an order that is safe."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from imgedit import spill
from imgedit.codec import chunks, png, stream
from imgedit.codec.atomic import Pending, file_error, show
from imgedit.codec.chunks import SIGNATURE, Source
from imgedit.codec.limits import Limits, is_plane_name
from imgedit.codec.png import PLANE, Picture
from imgedit.codec.samples import header_for, to_eight
from imgedit.codec.stream import MASK
from imgedit.codec.trust import parse_sidecar, settle
from imgedit.errors import DataError, FileError, UsageError
from imgedit.frame import Frame, plane_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgedit.frame import Plane, Sidecar

log = logging.getLogger("imgedit")

#: endings of the pictures that are looked for in folders
PICTURES = frozenset(
    {
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
        ".avif",
    }
)

AnyPath = str | os.PathLike[str]

#: a sidecar written here begins so
_OURS = re.compile(rb'\s*\{\s*"schema"\s*:\s*"imgedit/')
#: no reference to a plane beside is longer: name, NUL, digest
_REFERENCE_BYTES = 32 + 1 + 71


def stated_digest(path: AnyPath) -> str | None:
    """Return the digest that the sidecar beside *path* states, unchecked; None where there is none that can be read."""
    try:
        found = _read_sidecar(Path(path), Limits())
    except (DataError, FileError):
        return None
    return found.image.digest if found and found.image else None


def sidecar_path(path: AnyPath) -> Path:
    """Return where the sidecar of the picture *path* lies: ``x.png.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def plane_path(path: AnyPath, name: str) -> Path:
    """Return where the plane *name* of the picture *path* lies: ``x.mask.png``."""
    path = Path(path)
    stem = path.stem if path.suffix.lower() == ".png" else path.name
    return path.with_name(f"{stem}.{name}.png")


def planned_paths(frame: Frame, path: AnyPath) -> list[Path]:
    """Return the files that :func:`write_file` would write, in its order: planes, picture, sidecar.

    Raises UsageError for a name that promises another format than PNG.
    """
    path = Path(path)
    if path.suffix.lower() not in ("", ".png"):
        hint = f"-o {show(path.with_suffix('.png'))}"
        raise UsageError(f"{show(path)}: imgedit writes PNG, and the name says something else", hint)
    return [*(plane_path(path, name) for name in stream.all_planes(frame)), path, sidecar_path(path)]


def picture_of(path: AnyPath) -> Path | None:
    """Return the picture beside *path* whose mask or other plane it is; None where it is a picture of its own."""
    path = Path(path)
    stem, dot, name = path.stem.rpartition(".")
    if path.suffix != ".png" or not (dot and stem):
        return None
    for picture in (path.with_name(stem + suffix) for suffix in (".png", ".PNG")):
        try:
            if _is_file(picture) and (name == MASK or name in _plane_names(picture)):
                return picture
        except (DataError, FileError):  # a damaged neighbour says nothing of this file
            continue
    return None


def check_writable(path: AnyPath) -> None:
    """Raise the FileError that writing the picture *path* and its sidecar would end in, before any work is done."""
    beside = sidecar_path(path)
    for each in (Path(path), beside):
        Pending(each).discard()
    _refuse_foreign(beside)


def write_file(frame: Frame, path: AnyPath) -> list[Path]:
    """Write *frame* to *path* and beside it; return the files, in the order in which they appeared.

    All are written under no name first; then the planes appear, the picture, and the sidecar last, so that
    a failure leaves the files of before, and a kill leaves only whole ones. Nothing is ever deleted: a
    plane of an earlier picture stays where it is, and is not believed. Raises UsageError, and FileError also
    where another program's JSON lies in the place of the sidecar.
    """
    frame, path = stream.identified(frame), Path(path)
    paths = planned_paths(frame, path)
    stale = plane_path(path, MASK)
    if frame.mask is None and _is_file(stale):
        log.warning("%s is from before: %s has no mask now", show(stale), show(path))
    with contextlib.ExitStack() as stack:
        files = []
        for each in paths:
            files.append(Pending(each))
            stack.callback(files[-1].discard)
        _refuse_foreign(paths[-1])
        try:
            for pending, plane in zip(files, stream.all_planes(frame).values()):
                stream.write_plane(pending.file, plane)
            before = [*stream.metadata(frame), *stream.references(frame)]
            header = header_for(frame)
            png.write_png(files[-2].file, header, frame.pixels, frame.alpha, before=before, compact=True)
            files[-1].file.write(frame.sidecar.to_json(lines=True).encode("utf-8") + b"\n")
        except OSError as error:
            raise file_error(error, path, "written") from None
        for pending in files:
            pending.flush()
        for pending in files:
            pending.commit()
    return paths


def read_file(path: AnyPath, limits: Limits | None = None) -> Frame:
    """Read the picture *path* with what lies beside it.

    Of a sidecar beside and one inside, the one that describes these pixels is believed, the one beside
    first. ``x.mask.png`` is used when the picture or its sidecar speaks of a mask, or when the picture has
    no sidecar at all; other planes only when the picture names their digest. Raises FileError where
    reading fails, DataError for what is damaged, foreign to its name, too large or of another size.
    """
    path, limits = Path(path), limits or Limits()
    name = show(path)
    with stream.out_of_memory(name):
        picture, is_png = _read_picture(path, limits)
        frame, beside = stream.assemble(picture, limits, name)
        sidecars: list[Sidecar] = []
        if is_png:
            own = _read_sidecar(path, limits)
            sidecars = [*([own] if own else []), *stream.embedded_sidecars(picture, name)]
            frame = _with_planes(frame, path, beside, sidecars, limits)
    return settle(frame, sidecars, picture.mode, show(path.name), name)


def _is_file(path: Path) -> bool:
    """Tell whether *path* is a file; a name too long to be one is none. Raises FileError."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise file_error(error, path, "read") from None


def _refuse_foreign(beside: Path) -> None:
    """Raise FileError when *beside*, where a sidecar is to go, is a file that no imgedit wrote."""
    if not _is_file(beside):
        return
    with _opened(beside) as file:
        source = Source(file, show(beside))
        text = source.read(1000)
        if not _OURS.match(text):  # or written anew by another tool that sorts the keys
            text += source.read(Limits().sidecar_bytes)
    try:
        if not _OURS.match(text):
            parse_sidecar(text, show(beside), "")
    except DataError:
        raise FileError(
            f"{show(beside)} is not by imgedit, and its sidecar would replace it",
            f"move it away: mv {show(beside)} {show(beside)}.old",
        ) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb", buffering=chunks.PIECE)
    except (OSError, ValueError) as error:
        raise file_error(error, path, "read") from None
    with file:
        yield file


def _read_picture(path: Path, limits: Limits) -> tuple[Picture, bool]:
    """Return the picture in *path*, and whether it is a PNG."""
    name = show(path)
    with _opened(path) as file:
        source = Source(file, name)
        head = source.read(8)
        if not head:
            raise DataError(f"{name} is empty", "get or write it again")
        if head == SIGNATURE:
            picture = png.read_png(source, limits)
            rest = source.read(8)
            if rest == SIGNATURE:
                log.warning("%s: there is more than one picture in it; the first is used", name)
            elif rest:
                log.warning("%s: there are further bytes behind the picture; they are not read", name)
            return picture, True
        from imgedit.codec import foreign

        if not file.seekable():
            return foreign.read(foreign.collect(source, head, limits), limits, name), False
        file.seek(0)
        return foreign.read(file, limits, name), False


def _read_sidecar(path: Path, limits: Limits) -> Sidecar | None:
    beside = sidecar_path(path)
    if not _is_file(beside):
        return None
    with _opened(beside) as file:
        text = Source(file, show(beside)).read(limits.sidecar_bytes + 1)
    hint = f"move it away if it is not by imgedit: mv {show(beside)} {show(beside)}.old; delete it if nobody needs it"
    if len(text) > limits.sidecar_bytes:
        raise DataError(f"{show(beside)} is larger than {limits.sidecar_bytes:,} bytes", hint)
    return parse_sidecar(text, show(beside), hint)


def _with_planes(frame: Frame, path: Path, beside: dict[str, str], sidecars: list[Sidecar], limits: Limits) -> Frame:
    """Return *frame* with the planes that lie beside it and are known to belong to it."""
    planes = dict(frame.planes)
    size = (frame.rows, frame.columns)
    for name, digest in beside.items():
        place = plane_path(path, name)
        if not _is_file(place):
            log.warning("%s: its plane %r is not there: %s", show(path), name, show(place))
            continue
        if name == MASK:
            continue
        plane = _read_plane(place, size, limits)
        if plane_digest(plane) == digest:
            planes[name] = plane
        else:
            log.warning("%s was changed since %s was written; it is not used", show(place), show(path))
    mask, place = frame.mask, plane_path(path, MASK)
    if mask is None and _is_file(place):
        if MASK in beside or not sidecars or any(sidecar.mask for sidecar in sidecars):
            mask = _read_plane(place, size, limits)
        else:
            log.warning(
                "%s is not used: the sidecar of %s knows of no mask; to use it: `imgedit mask --from %s`",
                *(show(place), show(path), show(place)),
            )
    return frame.replace(planes=planes, mask=mask)


def _read_plane(path: Path, size: tuple[int, int], limits: Limits) -> Plane:
    """Return a plane from a picture file of any format, as long as it is grey, opaque and of this *size*."""
    name = show(path)
    frame, _ = stream.assemble(_read_picture(path, limits)[0], limits, name)
    if (frame.rows, frame.columns) != size:
        raise DataError(
            f"{name} is {frame.columns}×{frame.rows}, the picture beside it {size[1]}×{size[0]}",
            f"make it {size[1]}×{size[0]}, or delete it",
        )
    if not all(np.array_equal(part, part[..., [1, 2, 0]]) for part in spill.parts(frame.pixels)):
        raise DataError(f"{name} has colours; a mask is grey", "0 keeps, 255 changes: save it as grey, or delete it")
    if frame.alpha is not None and any(part.min() < frame.full_scale for part in spill.parts(frame.alpha)):
        raise DataError(f"{name} is partly transparent; a mask is opaque", "save it without alpha, or delete it")
    return spill.made(lambda part: to_eight(part[..., 0]), size, np.uint8, frame.pixels)


def _plane_names(path: Path) -> set[str]:
    """Return the names of the planes that the picture *path* says lie beside it, without decoding it."""
    names: set[str] = set()
    with _opened(path) as file:
        source = Source(file, show(path))
        if source.read(8) != SIGNATURE:
            return names
        while True:
            kind, length = chunks.read_head(source)
            if kind in ("IDAT", "IEND"):
                return names
            if kind == PLANE and length <= _REFERENCE_BYTES:
                name, _, rest = chunks.read_body(source, kind, length).partition(b"\0")
                if is_plane_name(name.decode("latin-1")) and rest.startswith(b"sha256:"):
                    names.add(name.decode("ascii"))
            else:
                for _ in source.pieces(length + 4, f"chunk {kind}"):
                    pass
