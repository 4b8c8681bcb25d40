"""Files of weights: what a safetensors header says, whether the bytes are all there, and their digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imgedit.errors import DataError, FileError

#: a header is a list of names and shapes; the format allows no more
MAX_HEADER = 100_000_000
#: endings of files that are read by unpickling
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
#: bytes per value
BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
AGAIN = "get it again: imgedit models pull ID, or copy the file anew"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in front of the weights. *shapes*: name → shape; *dtypes*: name → ``F16`` and the like."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]

    @property
    def values(self) -> int:
        """How many numbers there are in all."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def shown(path: Path) -> str:
    """Return what messages call a file: from the folder of its model on, or its name alone where it is in none."""
    path = path.absolute()
    for folder in (path.parent, path.parent.parent):
        if (folder / "model_index.json").is_file():
            inside = path.relative_to(folder).as_posix()
            owner, _, name = folder.parent.parent.name.removeprefix("models--").partition("--")
            # a folder of the Hub's cache is called by a commit, which tells nobody anything
            return f"{owner}/{name}: {inside}" if folder.parent.name == "snapshots" else f"{folder.name}/{inside}"
    return path.name


def header(path: Path) -> Header:
    """Return the header of a safetensors file; no weights are read.

    Raises DataError for a file that is cut short, too long, or not of this format; FileError where it cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise FileError(f"{shown(path)}: {error.strerror}", "check the name and the rights of the file") from None
    return _header(path, stat.st_size, stat.st_mtime_ns)


@cache
def _header(path: Path, size: int, changed: int) -> Header:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= MAX_HEADER:
                raise DataError(
                    f"{shown(path)} is not a safetensors file", "give a file of weights that is: x.safetensors"
                )
            if 8 + length > size:
                raise DataError(
                    f"{shown(path)} is cut short: its header alone has {length:,} bytes, it {size:,}", AGAIN
                )
            text = file.read(length)
    except OSError as error:
        raise FileError(f"{shown(path)}: {error.strerror}", "check the rights of the file") from None
    try:
        found, end = _tensors(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{shown(path)}: the header of this safetensors file is damaged", AGAIN) from None
    if 8 + length + end != size:
        less = "cut short" if 8 + length + end > size else "longer than it says"
        said = f"its header says {8 + length + end:,} bytes, it has {size:,}"
        raise DataError(f"{shown(path)} is {less}: {said}", AGAIN)
    return found


def _tensors(entries: Mapping[str, Any]) -> tuple[Header, int]:
    """Return the header and how many bytes of weights follow; ValueError and others where it contradicts itself."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    end = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        dtype = dtypes[name] = str(entry["dtype"])
        shapes[name] = tuple(int(side) for side in entry["shape"])
        first, last = (int(offset) for offset in entry["data_offsets"])
        # types of less than a byte may come: their length is what the offsets say
        if min(shapes[name], default=0) < 0 or first < 0 or last < first:
            raise ValueError(name)
        if dtype in BYTES and last - first != math.prod(shapes[name]) * BYTES[dtype]:
            raise ValueError(name)
        end = max(end, last)
    if not shapes:
        raise ValueError("no tensor")
    return Header(shapes, dtypes), end


def digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal; one that has not changed is read once in a process."""
    real = path.resolve()
    stat = real.stat()
    return _digest(real, stat.st_size, stat.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{shown(path)}: {error.strerror}", "check the rights of the file") from None
