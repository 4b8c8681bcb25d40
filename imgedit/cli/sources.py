"""Where pictures come from: files, folders, globs, ``-``, NUL-delimited lists."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgedit import codec
from imgedit.errors import FileError, ImgeditError, UsageError


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or standard input (*path* None). *params*: what this source alone changes in the first call.

    *fault*: why it cannot be read, known beforehand.
    """

    path: Path | None
    params: Mapping[str, Any] = field(default_factory=dict)
    fault: ImgeditError | None = None

    @property
    def name(self) -> str:
        return "-" if self.path is None else codec.show(self.path)

    def frames(self, limits: codec.Limits) -> Iterator[Any]:
        """Yield its frames: one of a file, any number of a stream."""
        if self.fault is not None:
            raise self.fault
        if self.path is None:
            yield from codec.read_stream(sys.stdin.buffer, limits)
        else:
            yield codec.read_file(self.path, limits)


def expand(inputs: Sequence[str], files0_from: str | None = None, *, keep_going: bool = False) -> list[Source]:
    """Return the sources that *inputs* name, in order; none given means standard input.

    Planes whose picture is among them are left out. Raises FileError for what does not exist (with *keep_going*
    this becomes the source's fault), UsageError where standard input is a terminal.
    """
    names = list(inputs)
    if files0_from is not None:
        if names:
            raise UsageError("--files0-from and INPUT are both given", "give one of them")
        names = _listed(files0_from)
        if not names:
            return []
    sources: list[Source] = []
    for name in names or ["-"]:
        try:
            sources += (Source(path) for path in _one(name))
        except FileError as fault:
            if not keep_going:
                raise
            sources.append(Source(Path(name), fault=fault))
    streams = sum(source.path is None for source in sources)
    if streams > 1:
        raise UsageError("standard input is given twice", "give - once")
    if streams and sys.stdin is None:
        raise FileError("standard input is closed", "give a file")
    if streams and sys.stdin.isatty():
        raise UsageError("no picture is given, and standard input is a terminal", "give a file, or pipe a picture in")
    listed = {source.path for source in sources if source.path is not None}
    return [s for s in sources if s.path is None or codec.picture_of(s.path) not in listed]


def _one(name: str) -> list[Path | None]:
    if name == "-":
        return [None]
    path = Path(name)
    if path.is_dir():
        return [*pictures(path)]
    if not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - keeps the form that was typed
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise FileError(f"nothing matches {name!r}", "check the pattern, and that the shell did not change it")
        return [*files]
    return [path]


def pictures(folder: Path) -> list[Path]:
    """Return the pictures in *folder*, sorted, without planes that lie beside their picture; none is a FileError."""
    try:
        files = sorted(
            p for p in folder.iterdir() if p.suffix.lower() in codec.PICTURES and p.name[0] != "." and p.is_file()
        )
    except OSError as error:
        raise codec.file_error(error, folder, "read") from None
    found = [path for path in files if codec.picture_of(path) is None]
    if not found:
        raise FileError(
            f"there is no picture in the folder {codec.show(folder)!r}; the folders in it are not looked into",
            f"give {codec.show(folder)}/**/*.jpg in quotes, or a folder with pictures",
        )
    return found


def _listed(name: str) -> list[str]:
    """Return the names in a NUL-delimited list; ``-`` reads it from standard input."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read the list {name!r}: {error.strerror}", "give a file, or - for stdin") from None
    if b"\0" not in data and b"\n" in data:
        raise UsageError(f"the list {name!r} is not NUL-delimited", "write it by: find FOLDER -print0")
    return [os.fsdecode(item) for item in data.split(b"\0") if item]
