"""Work through a picture in bands of rows, on a few threads, with results that do not depend on their timing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import starting_threads

T = TypeVar("T")
R = TypeVar("R")

# more threads would only wait for memory, and for the interpreter between two short array operations
_THREADS = min(4, os.cpu_count() or 1)
_local = threading.local()


def bands(rows: int, columns: int, pixels: int) -> list[slice]:
    """Return slices of rows, in order, that cover *rows*, each of about *pixels* pixels and of at least one row."""
    height = max(1, pixels // max(1, columns))
    return [slice(start, min(rows, start + height)) for start in range(0, rows, height)]


def each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``[function(item) for item in items]``, in this order, computed on a few threads.

    Array code lets go of the interpreter lock while it computes, which is what makes threads worth it.
    """
    if len(items) < 2 or _THREADS == 1:
        return [function(item) for item in items]
    with starting_threads(), ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def extent(parts: Iterable[NDArray[np.uint8]]) -> tuple[slice, slice] | None:
    """Return the rows and columns that a plane is above 0 in, None where it is so nowhere; *parts*: its rows, in order.

    Taken by parts, since the plane may be larger than memory.
    """
    top, found = 0, []
    for part in parts:
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(part))
        if width:
            found.append((top + y, top + y + height, x, x + width))
        top += len(part)
    if not found:
        return None
    starts, stops, lefts, rights = zip(*found)
    return slice(min(starts), max(stops)), slice(min(lefts), max(rights))


def scratch(name: str, count: int, size: int) -> NDArray[np.float32]:
    """Return *count* float32 buffers of *size* elements, (count, size), that this thread keeps under *name*.

    Their contents are what the last user left. Fresh arrays of this size would be handed back to the system and
    faulted in again at every operation, which costs more than the arithmetic.
    """
    kept: dict[str, Any] = _local.__dict__.setdefault("buffers", {})
    buffer = kept.get(name)
    if buffer is None or buffer.size < count * size:
        buffer = kept[name] = np.empty(count * size, np.float32)
    return np.asarray(buffer[: count * size].reshape(count, size))
