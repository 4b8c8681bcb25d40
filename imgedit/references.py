"""What a parameter that names a picture, a tone or a file stands for, and what a step records of it: never a path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgedit import codec
from imgedit.describe import measured_tone
from imgedit.errors import UsageError, nearest, starting_threads
from imgedit.frame import Frame, ToneStats
from imgedit.param import Param

#: reference pictures that are kept, since batches use the same for all pictures
MOST_READ = 4
_READING: dict[tuple[Path, int, codec.Limits], Future[Frame]] = {}


def placed(param: Param, given: str, folder: Path) -> str:
    """Return the file that *given* names, found from *folder*; a model that is no file there stays as it is."""
    path = _path(given, folder)
    return given if param.kind == "model" and not path.exists() else str(path)


def recorded_model(given: str, folder: Path) -> str:
    """Return what a step records of a model: an id as it is, of a file or folder found from *folder* the name alone."""
    path = _path(given, folder)
    known = path.exists() or given.startswith(("/", ".", "~"))
    return codec.show(Path(os.path.abspath(path)).name) if known else given  # noqa: PTH100 - resolve() would follow links


def recorded_backend(given: str, folder: Path) -> str:
    """Return what a step records of a backend, ``NAME`` or ``NAME:FILE``: the file's name alone."""
    name, colon, file = given.partition(":")
    return f"{name}:{recorded_model(file, folder)}" if colon else given


def _path(given: str, folder: Path) -> Path:
    return folder / os.path.expanduser(given)  # noqa: PTH111 - pathlib's raises where there is no such user


def resolve(
    param: Param,
    given: Any,
    frame: Frame,
    named: Mapping[str, Frame],
    tones: Mapping[str, ToneStats],
    limits: codec.Limits,
    folder: Path,
) -> tuple[Any, Any]:
    """Return what a picture, tone or file parameter stands for, and what the step records of it.

    *named*, *tones*: name → picture or tone that ``@name`` means. Relative files lie in *folder*.
    """
    if param.kind == "model":
        return placed(param, given, folder), recorded_model(given, folder)
    if param.kind == "file":
        path = Path(placed(param, given, folder))
        return str(path), {"file": codec.show(path.name), "digest": file_digest(path)}
    if isinstance(given, Frame):
        return given if param.kind == "picture" else _tone_like(given, frame), {"digest": given.digest}
    if isinstance(given, ToneStats):
        return given, {}
    if given.startswith("@"):
        found = _named(given, named) if param.kind == "picture" else _named_tone(given, frame, tones)
        return found, given
    held = reading(folder / given, limits).result()
    record = {"file": codec.show(Path(given).name), "digest": held.digest}
    return (held, record) if param.kind == "picture" else (_tone_like(held, frame), record)


def file_digest(path: Path) -> str:
    """Return ``sha256:…`` of the bytes of a file. Raises FileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise codec.file_error(error, path, "read") from None


def _named(given: str, named: Mapping[str, Frame]) -> Frame:
    if given[1:] not in named:
        raise UsageError(
            f"there is no picture {given!r} here",
            f"pictures of earlier steps are known inside a pipeline file only; a file of this name is ./{given}",
        )
    return named[given[1:]]


def _named_tone(given: str, frame: Frame, tones: Mapping[str, ToneStats]) -> ToneStats:
    steps = frame.sidecar.steps
    known = {f"before-{s.stage}": s.tone_before for s in steps} | {f"after-{s.stage}": s.tone_after for s in steps}
    found = {**known, **tones}.get(given[1:])
    if found is None:
        raise UsageError(f"no tone is recorded under {given!r}", nearest(given, ("@" + name for name in known)))
    return found


def _tone_like(reference: Frame, frame: Frame) -> ToneStats:
    """Return the tone of a reference for *frame*: outside the same mask where both are of one size."""
    if reference.mask is None and frame.mask is not None and frame.mask.shape == reference.pixels.shape[:2]:
        return measured_tone(reference.replace(mask=frame.mask))
    return replace(measured_tone(reference), masked=frame.mask is not None)


def reading(path: Path, limits: codec.Limits) -> Future[Frame]:
    """Return the reading of a reference picture, begun beside what else goes on; the last few are kept."""
    key = (path.absolute(), path.stat().st_mtime_ns if path.exists() else 0, limits)
    if key not in _READING:
        while len(_READING) >= MOST_READ:
            del _READING[next(iter(_READING))]
        reader = ThreadPoolExecutor(1)
        with starting_threads():
            _READING[key] = reader.submit(codec.read_file, path, limits)
        reader.shutdown(wait=False)
    return _READING[key]
