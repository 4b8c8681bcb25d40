"""Arrays that may be larger than memory: beyond a size they lie in an unnamed file, and leave memory again when used.

A picture in such an array is read and written like any other; the system moves its pages. Pages that were touched would
count as memory of this process until somebody else wants it: a watch hands them back as they become many.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: bytes: arrays above lie in a file where nothing was said of memory
_LARGE = 4 << 30
#: of a memory target: arrays above this share lie in a file, and as much of all files may stay in memory
_SHARE = 1 / 16
#: and at least this: small files are all overhead
_LEAST = 8 << 20
#: seconds between two looks at what is in memory
_INTERVAL = 0.005
_GIVE_UP = hasattr(mmap, "MADV_DONTNEED") and os.name == "posix"

_lock = threading.Lock()
_maps: weakref.WeakSet[Any] = weakref.WeakSet()
_watch: threading.Thread | None = None
_most: int | None = None


def configure(target: int | None) -> None:
    """Say how many bytes the process may hold: arrays beyond a part of that are put into files from now on."""
    global _most
    _most = None if target is None else max(_LEAST, int(target * _SHARE))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of *shape* and *dtype* with any content: in memory, or in a file where it is large.

    The file lies in the folder for temporary files (``TMPDIR``) and has no name: it goes when the array goes, however
    the process ends. Raises OSError where it does not fit there.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= (_LARGE if _most is None else _most):
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="imgedit-") as file:
        # asked for now: a full disk met later, by a write to memory, would kill the process
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        held = mmap.mmap(file.fileno(), size)
    _keep(held)
    return np.frombuffer(held, dtype).reshape(shape)


def in_memory(array: NDArray[Any]) -> int:
    """Return how many bytes of memory *array* takes, or will take once it is filled: 0 for one in a file."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return 0 if isinstance(base, mmap.mmap) else array.nbytes


def _keep(held: mmap.mmap) -> None:
    """Let *held* be watched."""
    global _watch
    with _lock:
        _maps.add(held)
        if _GIVE_UP and (_watch is None or not _watch.is_alive()):
            _watch = threading.Thread(target=_look, daemon=True)
            _watch.start()


def _look() -> None:
    """Hand the pages of all files back to the system whenever they have become many."""
    pause = threading.Event()
    least = _mapped()
    while _maps:
        pause.wait(_INTERVAL)
        mapped = _mapped()
        least = min(least, mapped)  # what libraries take is mapped too
        if mapped - least <= (_most or _LARGE // 4):
            continue
        _hand_back()
        least = _mapped()


def _hand_back() -> None:
    # in a function of its own: nothing may hold on to a file while the watch waits
    for held in list(_maps):
        with contextlib.suppress(ValueError, OSError):  # closed in between
            # the pages stay with the system, which writes them to the file when it must: nothing is lost
            held.madvise(mmap.MADV_DONTNEED)


def _mapped() -> int:
    """Return how many bytes of files are in this process's memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[2]) * mmap.PAGESIZE
    return 0
