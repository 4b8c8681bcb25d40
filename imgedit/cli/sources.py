"""Where pictures come from: files, folders, globs, ``-``, NUL-delimited lists."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgedit import codec
from imgedit.errors import FileError, UsageError

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


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or standard input (*path* None). *params*: what this source alone changes in the first call."""

    path: Path | None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "-" if self.path is None else str(self.path)

    def frames(self, limits: codec.Limits) -> Iterator[Any]:
        """Yield its frames: one of a file, any number of a stream."""
        if self.path is None:
            yield from codec.read_stream(sys.stdin.buffer, limits)
        else:
            yield codec.read_file(self.path, limits)


def expand(inputs: Sequence[str], files0_from: str | None = None) -> list[Source]:
    """Return the sources that *inputs* name, in order; none given means standard input.

    Raises FileError for what does not exist, UsageError where standard input is a terminal.
    """
    names = list(inputs)
    if files0_from is not None:
        if names:
            raise UsageError("--files0-from and INPUT are both given", "give one of them")
        names = _listed(files0_from)
        if not names:
            return []
    paths = [path for name in names or ["-"] for path in _one(name)]
    if paths.count(None) > 1:
        raise UsageError("standard input is given twice", "give - once")
    if None in paths and sys.stdin.isatty():
        raise UsageError("no picture is given, and standard input is a terminal", "give a file, or pipe a picture in")
    return [Source(path) for path in paths]


def _one(name: str) -> list[Path | None]:
    if name == "-":
        return [None]
    path = Path(name)
    if path.is_dir():
        found = pictures(path)
        if not found:
            raise FileError(f"there is no picture in the folder {name!r}", f"known are {', '.join(sorted(PICTURES))}")
        return [*found]
    if not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - keeps the form that was typed
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise FileError(f"nothing matches {name!r}", "check the pattern, and that the shell did not change it")
        return [*_without_planes(files)]
    return [path]


def pictures(folder: Path) -> list[Path]:
    """Return the pictures in *folder*, sorted; planes that lie beside their picture are not among them."""
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != "." and p.is_file())
    except OSError as error:
        raise FileError(f"cannot read the folder {str(folder)!r}: {error.strerror}", "check its permissions") from None
    return _without_planes(files)


def _without_planes(files: Sequence[Path]) -> list[Path]:
    """Leave out ``x.mask.png`` and its like where ``x.png`` lies beside it."""

    def is_plane(path: Path) -> bool:
        stem, dot, plane = path.stem.rpartition(".")
        return bool(dot and plane) and path.suffix == ".png" and path.with_name(stem + ".png").exists()

    return [path for path in files if not is_plane(path)]


def _listed(name: str) -> list[str]:
    """Return the names in a NUL-delimited list; ``-`` reads it from standard input."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read the list {name!r}: {error.strerror}", "give a file, or - for stdin") from None
    import os

    return [os.fsdecode(item) for item in data.split(b"\0") if item]
