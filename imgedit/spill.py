"""Arrays that may be larger than memory: beyond a size they lie in an unnamed file, which is read and written by parts.

Such an array is an array like any other, and whoever does not care may use it so: the system moves its pages, and a
watch hands those back that were touched, for they count as memory of this process. A watch comes late on a busy
machine. Whoever goes through a whole picture therefore takes it by parts, with :func:`fetch`, :func:`parts` and
:func:`store`: these go past the pages, straight to the file, and hold no more than the part.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imgedit.errors import FileError

#: bytes: arrays above lie in a file where nothing was said of memory
_LARGE = 4 << 30
#: of a memory target: arrays above this share lie in a file, and as much of all files may stay in memory
_SHARE = 1 / 32
#: and at least this: small files are all overhead
_LEAST = 8 << 20
#: bytes of an array that :func:`parts` gives at a time
PART = 1 << 20
#: seconds between two looks at what is in memory
_INTERVAL = 0.005
_GIVE_UP = hasattr(mmap, "MADV_DONTNEED") and os.name == "posix"

_lock = threading.Lock()
_maps: weakref.WeakSet[_Held] = weakref.WeakSet()
_watch: threading.Thread | None = None
_most: int | None = None


class _Held(mmap.mmap):
    """The memory that an unnamed file is seen through, and its number."""

    file: int = -1

    def own(self, file: int) -> None:
        """Keep *file* open as long as this is there."""
        self.file = file
        weakref.finalize(self, os.close, file).atexit = False


def configure(target: int | None) -> None:
    """Say how many bytes the process may hold: arrays beyond a part of that are put into files from now on."""
    global _most
    _most = None if target is None else max(_LEAST, int(target * _SHARE))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of *shape* and *dtype* with any content: in memory, or in a file where it is large.

    The file lies in the folder for temporary files (``TMPDIR``) and has no name: it goes when the array goes, however
    the process ends. Raises FileError where it does not fit there.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not is_large(size):
        return np.empty(shape, dtype)
    try:
        held = _file(size)
    except OSError as error:
        raise FileError(
            f"no room for {size / 1e9:.2f} GB of a picture among the temporary files: {error.strerror or error}",
            "make room there, or name a folder on a larger disk: TMPDIR=FOLDER imgedit …",
        ) from None
    _keep(held)
    return np.frombuffer(held, dtype).reshape(shape)


def is_large(size: int) -> bool:
    """Tell whether an array of *size* bytes would lie in a file."""
    return size > (_LARGE if _most is None else _most)


def _file(size: int) -> _Held:
    with tempfile.TemporaryFile(prefix="imgedit-") as file:
        # asked for now: a full disk met later, by a write to memory, would kill the process
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        held = _Held(file.fileno(), size)
        held.own(os.dup(file.fileno()))
    return held


def in_memory(array: NDArray[Any]) -> int:
    """Return how many bytes of memory *array* takes, or will take once it is filled: 0 for one in a file."""
    return array.nbytes if _held(array) is None else 0


def fetch(array: NDArray[Any]) -> NDArray[Any]:
    """Return *array*, or where it is a view of one in a file, a copy in memory: for parts that are small."""
    held = _held(array)
    if held is None:
        return array
    lines = _lines(array)
    if lines is None:
        copied = array.copy()
        _let_go(held, array)
        return copied
    result = np.empty(array.shape, array.dtype)
    for offset, place in lines:
        into = result[place] if place is not None else result
        _read(held.file, into.reshape(-1).view(np.uint8).data, offset)
    return result


def parts(array: NDArray[Any], size: int = PART) -> Iterator[NDArray[Any]]:
    """Yield *array* by parts of about *size* bytes, in order, each of whole rows, fetched."""
    step = rows_of(array, size)
    for start in range(0, len(array), step):
        yield fetch(array[start : start + step])


def rows_of(array: NDArray[Any], size: int = PART) -> int:
    """Return how many rows of *array* have about *size* bytes, at least 1."""
    return max(1, size * len(array) // max(1, array.nbytes))


def room(array: NDArray[Any]) -> NDArray[Any]:
    """Return *array* to be written to, or where it is a view of one in a file, memory of its shape to be stored."""
    return array if _held(array) is None else np.empty(array.shape, array.dtype)


def store(array: NDArray[Any], values: NDArray[Any]) -> None:
    """Write *values* to *array*, of the same shape and type; nothing where they are :func:`room` that is *array*."""
    if values is array:
        return
    if values.shape != array.shape or not array.flags.writeable:
        raise ValueError(f"{values.shape} values for {array.shape}, or an array that is not to be written to")
    held = _held(array)
    lines = None if held is None else _lines(array)
    if held is None or lines is None:
        array[...] = values
        if held is not None:
            _let_go(held, array)
        return
    values = np.ascontiguousarray(values, array.dtype)
    for offset, place in lines:
        part = values[place] if place is not None else values
        _write(held.file, part.reshape(-1).view(np.uint8).data, offset)


def made(
    function: Callable[..., NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike, *arrays: NDArray[Any]
) -> NDArray[Any]:
    """Return an array of *shape* and *dtype* whose rows are what *function* makes of the same rows of *arrays*.

    It is given some rows at a time; the result is in memory, or in a file where it is large.
    """
    result = empty(shape, dtype)
    step = rows_of(result)
    for top in range(0, len(result), step):
        part = slice(top, top + step)
        store(result[part], function(*(fetch(array[part]) for array in arrays)))
    return result


def let_go(array: NDArray[Any]) -> None:
    """Hand the pages back that *array* lies in, where others touched them; nothing where it is in memory."""
    held = _held(array)
    if held is not None:
        _let_go(held, array)


def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Write *source* to *target*, of the same shape and type, part by part."""
    top = 0
    for part in parts(source):
        store(target[top : top + len(part)], part)
        top += len(part)


# --- where a view lies in its file -------------------------------------------------------------------------


def _held(array: NDArray[Any]) -> _Held | None:
    """Return what *array* is a view of, where that lies in a file."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, _Held) else None


def _begin(array: NDArray[Any]) -> int:
    """Return how far behind the beginning of its file the first element of *array* lies, in bytes."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    address: int = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return address


def _lines(array: NDArray[Any]) -> Iterator[tuple[int, int | None]] | None:
    """Return where in its file the parts of *array* begin that lie in one piece, and the index of each.

    That is the whole (index None), or its rows; None where rows are in pieces themselves.
    """
    if array.size == 0:
        return iter(())
    start = _begin(array)
    if array.flags.c_contiguous:
        return iter([(start, None)])
    if array.ndim < 2 or not array[0].flags.c_contiguous:
        return None
    step = array.strides[0]
    return ((start + row * step, row) for row in range(len(array)))


def _read(file: int, into: memoryview, offset: int) -> None:
    while into:
        count = os.preadv(file, [into], offset)
        if not count:
            raise OSError("a temporary file ends early")
        into, offset = into[count:], offset + count


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count


# --- pages that were touched -------------------------------------------------------------------------------


def _let_go(held: _Held, array: NDArray[Any]) -> None:
    """Hand the pages back that *array* lies in, and those between."""
    if not _GIVE_UP or array.size == 0:
        return
    start = end = _begin(array)
    for count, step in zip(array.shape, array.strides):
        start, end = start + min(0, (count - 1) * step), end + max(0, (count - 1) * step)
    start = start // mmap.PAGESIZE * mmap.PAGESIZE
    held.madvise(mmap.MADV_DONTNEED, start, end + array.itemsize - start)


def _keep(held: _Held) -> None:
    """Let *held* be watched."""
    global _watch
    with _lock:
        _maps.add(held)
        # after a fork there is none, whatever this says
        if _GIVE_UP and (_watch is None or not _watch.is_alive()):
            _watch = threading.Thread(target=_look, daemon=True)
            _watch.start()


def _look() -> None:
    """Hand the pages of all files back to the system whenever they have become many."""
    global _watch
    pause = threading.Event()
    least = _mapped()
    while True:
        pause.wait(_INTERVAL)
        with _lock:
            if not _maps:
                _watch = None
                return
        mapped = _mapped()
        least = min(least, mapped)  # what libraries take is mapped too
        if mapped - least <= (_most or _LARGE // 4):
            continue
        _hand_back()
        least = _mapped()


def _hand_back() -> None:
    # in a function of its own: nothing may hold on to a file while the watch waits
    with _lock:
        maps = list(_maps)
    for held in maps:
        with contextlib.suppress(ValueError, OSError):  # closed in between
            # the pages stay with the system, which writes them to the file when it must: nothing is lost
            held.madvise(mmap.MADV_DONTNEED)


def _mapped() -> int:
    """Return how many bytes of files are in this process's memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[2]) * mmap.PAGESIZE
    return 0
