"""What an input may ask for before it is refused, and the errors that say so."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imgedit.errors import DataError

MIB = 1 << 20
MOST_PLANES = 8
_PLANE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds that are checked before anything is decoded or allocated.

    *pixels*: rows × columns; the planes of a picture, 8 at most, may have three times as many together, which
    is as many bytes as 8-bit RGB. *chunk_bytes*: one metadata chunk, also after inflation; all of them together
    may take four times as much. *sidecar_bytes*: the JSON text.
    """

    pixels: int = 256_000_000
    chunk_bytes: int = 16 * MIB
    sidecar_bytes: int = 4 * MIB

    def check_size(self, rows: int, columns: int, name: str) -> None:
        """Raise DataError when a picture of this size is empty or too large."""
        if rows < 1 or columns < 1:
            raise DataError(f"{name}: the picture is {columns}×{rows}: it has no pixels", FRESH_HINT)
        if rows * columns > self.pixels:
            raise DataError(
                f"{name}: the picture is {columns}×{rows}, {rows * columns:,} pixels; the limit is {self.pixels:,}",
                f"if you trust it: --max-pixels {rows * columns}",
            )

    def check_planes(self, count: int, rows: int, columns: int, name: str) -> None:
        """Raise DataError when *count* planes of this size are too many."""
        if count > MOST_PLANES:
            raise damaged(name, f"there are more than {MOST_PLANES} planes")
        if count * rows * columns > 3 * self.pixels:
            raise DataError(
                f"{name}: {count} planes of {columns}×{rows} have more than {3 * self.pixels:,} pixels together",
                f"if you trust it: --max-pixels {-(-count * rows * columns // 3)}",
            )


FRESH_HINT = "the file is damaged or incomplete: get or write it again"


def damaged(name: str, what: str) -> DataError:
    """Return the error for an input that is not what it claims to be."""
    return DataError(f"{name}: {what}", FRESH_HINT)


def too_long(name: str, what: str, limit: int) -> DataError:
    """Return the error for metadata above a limit."""
    return DataError(
        f"{name}: {what} is larger than {limit:,} bytes",
        f"strip the metadata, or if you trust it: --max-chunk-bytes {limit * 8}",
    )


def is_plane_name(name: str) -> bool:
    """Tell whether a plane can be called *name*: a short word that is safe in the name of a file."""
    return _PLANE_NAME.fullmatch(name) is not None
