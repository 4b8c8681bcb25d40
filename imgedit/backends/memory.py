"""How much memory there is, how much a piece of work takes, and whether it was the lack of it that ended the work."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from imgedit.errors import ImgeditError, OutOfMemory, no_thread

GB = 10**9
#: of what is free, this share may be planned with where no target is given: others live on the machine too
FREE_SHARE = 0.5
#: and this share where one is given: a target is a promise, but not one that the machine can always keep
KEPT_SHARE = 0.9
#: seconds between two looks at the memory in use: at first, and at most
_INTERVAL, _LONGEST = 0.001, 0.01
_ROOT = Path("/")
#: allocators say it in their own words: torch on the CPU, CUDA and its libraries, onnxruntime, C++
_WORDS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|failed to allocate memory"
    r"|bad_alloc|alloc_failed|std::length_error",
    re.IGNORECASE,
)


def available(device: str = "cpu") -> int:
    """Return how many bytes can still be taken on *device*: ``cpu``, ``mps`` (the same memory), ``cuda``, ``cuda:1``.

    On the CPU the least of what the system has to give, what the control groups of the process leave, and what its
    limit of address space leaves. On CUDA what the device has free and what torch holds without using it.
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return max(0, min(_of_the_system(), *_of_groups(), *_of_limits()))


def resident() -> int:
    """Return how many bytes of memory this process holds now; where the system does not say, the most it ever held."""
    try:
        return int((_ROOT / "proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return peak()


def peak() -> int:
    """Return how many bytes of memory this process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def in_use(device: str = "cpu") -> int:
    """Return how many bytes the process holds on *device* now."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(device))
    return resident()


def budget(target_gb: float | None, device: str = "cpu", kept: int = 0) -> int:
    """Return how many bytes further work on *device* may take, 0 or more.

    *target_gb*: what the process may hold in all, in 10⁹ bytes; what it holds already is taken from that. Without one,
    half of what is free. *kept*: bytes of what it holds that the work will use again.
    """
    free = available(device)
    if target_gb is None:
        return int(FREE_SHARE * free) + kept
    return max(0, min(int(target_gb * GB) - in_use(device), int(KEPT_SHARE * free)) + kept)


def too_little(left: float, needs: float) -> OutOfMemory:
    """Return the error for a smallest tile that does not fit: *left* bytes may be taken, *needs* would have to be held.

    Rounded up, with room for what the process comes to hold besides, so that the target that the hint names is enough.
    """
    return OutOfMemory(
        f"not even the smallest tile fits: {said(left)} may be taken beside what the program itself holds",
        f"--memory-target-gb {math.ceil((needs / GB + 0.02) * 20) / 20:g} would do, if the machine has that",
    )


class Watch:
    """Measures, in a ``with`` block, the most memory in use: *peak* in all, *taken* beyond what it was before.

    Exact on CUDA, and on the CPU where the process never held as much before; else looked at every millisecond, and of
    what takes longer than a second more rarely, every hundredth of one at last.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.before = self.peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def taken(self) -> int:
        return max(0, self.peak - self.before)

    def __enter__(self) -> Watch:
        self.before = self.peak = in_use(self.device)
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._ever = peak()
            self._thread = threading.Thread(target=self._look, daemon=True)
            with contextlib.suppress(RuntimeError):  # no memory for a thread: what is in use at the end has to do
                self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._thread is None:
            import torch

            self.peak = int(torch.cuda.max_memory_allocated(self.device))
            return
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.peak = max(self.peak, resident())
        if peak() > self._ever:
            self.peak = max(self.peak, peak())

    def _look(self) -> None:
        start = time.monotonic()
        # looking a thousand times a second takes some percent of a processor: of long work it is done less often
        while not self._stop.wait(min(_LONGEST, max(1.0, time.monotonic() - start) * _INTERVAL)):
            self.peak = max(self.peak, resident())


def is_lack(error: BaseException) -> bool:
    """Say whether *error* means that there was not enough memory, whichever allocator says so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or no_thread(error):
        return True
    return isinstance(error, Exception) and not isinstance(error, ImgeditError) and bool(_WORDS.search(str(error)))


def give_back(device: str = "cpu", *, search: bool = True) -> None:
    """Hand memory that nothing refers to any more back to the system, as far as the allocators do that.

    *search*: look for what refers to itself alone, as an error and its traceback do. Beside torch that takes 0.1 to 0.3
    seconds: where nothing has failed it can be left out.
    """
    if search:
        gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
    # glibc alone keeps what was freed and has this
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


# --- what the system says ---------------------------------------------------------------------------------


def _of_the_system() -> int:
    """Return the bytes that could be handed out without swapping."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        found = re.search(rb"MemAvailable:\s*(\d+) kB", (_ROOT / "proc/meminfo").read_bytes())
        if found:
            return int(found[1]) << 10
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            names = ["hw.pagesize", "vm.page_free_count", "vm.page_purgeable_count", "vm.page_pageable_external_count"]
            said = subprocess.run(["/usr/sbin/sysctl", "-n", *names], capture_output=True, check=True, timeout=10)
            size, *counts = map(int, said.stdout.split())
            return size * sum(counts)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups() -> Iterator[int]:
    """Yield the bytes that each control group of the process leaves: its own, and those that this one lies in."""
    try:
        lines = (_ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _of_group(_ROOT / "sys/fs/cgroup", path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _of_group(_ROOT / "sys/fs/cgroup/memory", path, names)


def _of_group(base: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    limit, usage, reclaimable = names
    # inside a container the path may be the host's, and the group itself lies at the base
    inner = base / path.strip("/")
    for folder in dict.fromkeys((inner, *inner.parents, base)):
        if folder != base and base not in folder.parents:
            continue
        with contextlib.suppress(OSError, ValueError):
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            found = re.search(rf"^{reclaimable} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            yield most - used + (int(found[1]) if found else 0)


def _of_limits() -> Iterator[int]:
    """Yield the bytes of address space that the process may still map, where that is limited (``ulimit -v``)."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError, IndexError):
            yield most - int((_ROOT / "proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def as_gb(count: float) -> float:
    """Return *count* bytes in 10⁹ bytes, as it is written in notes."""
    return round(count / GB, 3)


def said(count: float) -> str:
    """Return *count* bytes as it is written in messages."""
    if count <= 0:
        return "nothing"
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / 1e6:.1f} MB"
