"""The fills that are compared, and the process that runs one of them on a folder of cases.

    python scripts/bench/peers/methods.py METHOD FOLDER RESULTS

FOLDER holds ``000.npz``, ``001.npz``, … with *pixels* (rows, columns, 3) uint8 RGB and *mask* (rows, columns) uint8,
255 = to be filled. RESULTS receives ``000.npy``, … as the method returns them, before anything outside the mask is put
back. The last line of the output is JSON: processor seconds for each case and MiB at most beyond what was loaded, or
why the method is not there. Needs only numpy and what the method itself is made of: peers have environments of their
own, since their packages exclude each other.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = Any
Fill = Callable[[Array, Array], Array]


class Method(NamedTuple):
    """A fill. *home*: the environment it runs in, empty for that of imgedit; *make* imports what it needs."""

    name: str
    home: str
    make: Callable[[], Fill]


def erase(backend: str) -> Fill:
    """Return the stage as users call it."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from imgedit import registry
    from imgedit.frame import Frame
    from imgedit.stages.erase import erase as stage

    filler = registry.backend("fill", backend)
    return lambda pixels, mask: stage(Frame(pixels.copy(), mask=mask.copy()), filler).pixels


def march(flag: str) -> Fill:
    import cv2

    return lambda pixels, mask: cv2.inpaint(pixels, mask, 3, getattr(cv2, flag))


def xphoto(flag: str, *, lab: bool) -> Fill:
    """Return a fill of OpenCV contrib, which wants what is known as its mask, and BGR or, for some, Lab."""
    import cv2

    there, back = (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB) if lab else (cv2.COLOR_RGB2BGR, cv2.COLOR_BGR2RGB)

    def fill(pixels: Array, mask: Array) -> Array:
        out = np.zeros_like(pixels)
        cv2.xphoto.inpaint(cv2.cvtColor(pixels, there), 255 - mask, out, getattr(cv2.xphoto, flag))
        return cv2.cvtColor(out, back)

    return fill


def biharmonic() -> Fill:
    from skimage.restoration import inpaint_biharmonic

    def fill(pixels: Array, mask: Array) -> Array:
        return np.rint(np.clip(inpaint_biharmonic(pixels, mask > 0, channel_axis=2), 0, 1) * 255).astype(np.uint8)

    return fill


def patchmatch(radius: int) -> Fill:
    from patchmatch import patch_match

    patch_match.set_random_seed(0)
    return lambda pixels, mask: patch_match.inpaint(pixels, mask, patch_size=radius)


def gmic(command: str) -> Fill:
    """Return a fill by a process for each picture, its start and the reading and writing of files in the time."""
    if shutil.which("gmic") is None:
        raise ImportError("no program gmic; apt-get install gmic")
    folder = tempfile.TemporaryDirectory()  # removed with the process

    def fill(pixels: Array, mask: Array) -> Array:
        files = [f"{folder.name}/{name}" for name in ("in.ppm", "mask.pgm", "out.ppm")]
        for file, values in zip(files, (pixels, mask)):
            kind = b"P6" if values.ndim == 3 else b"P5"
            Path(file).write_bytes(kind + b"\n%d %d\n255\n" % values.shape[1::-1] + values.tobytes())
        end = ["-keep[0]", "-round", "-cut", "0,255", "-output", files[2]]
        subprocess.run(["gmic", "-v", "0", *files[:2], *command.split(), *end], check=True, capture_output=True)
        result = Path(files[2]).read_bytes()[-pixels.size :]
        return np.frombuffer(result, np.uint8).reshape(pixels.shape)

    return fill


def iopaint() -> Fill:
    """Return IOPaint's cv2 model with its defaults; it takes RGB and returns BGR."""
    import torch
    from iopaint.model_manager import ModelManager
    from iopaint.schema import InpaintRequest

    model, request = ModelManager(name="cv2", device=torch.device("cpu")), InpaintRequest()
    return lambda pixels, mask: np.ascontiguousarray(model(pixels, mask, request)[..., ::-1])


PEERS = (
    Method("FSR fast", "pixel", lambda: xphoto("INPAINT_FSR_FAST", lab=False)),
    Method("FSR fast, Lab", "pixel", lambda: xphoto("INPAINT_FSR_FAST", lab=True)),
    Method("FSR best", "pixel", lambda: xphoto("INPAINT_FSR_BEST", lab=False)),
    Method("shiftmap", "pixel", lambda: xphoto("INPAINT_SHIFTMAP", lab=True)),
    Method("cv2 Telea, radius 3", "", lambda: march("INPAINT_TELEA")),
    Method("cv2 NS, radius 3", "", lambda: march("INPAINT_NS")),
    Method("skimage biharmonic", "", biharmonic),
    Method("PatchMatch 3", "pixel", lambda: patchmatch(3)),
    Method("PatchMatch 5", "pixel", lambda: patchmatch(5)),
    Method("PatchMatch 7", "pixel", lambda: patchmatch(7)),
    Method("G'MIC pde", "", lambda: gmic("-inpaint_pde[0] [1]")),
    Method("G'MIC pde, edges", "", lambda: gmic("-inpaint_pde[0] [1],100%,2")),
    Method("G'MIC matchpatch", "", lambda: gmic("-inpaint_matchpatch[0] [1]")),
    Method("G'MIC patch-based", "", lambda: gmic("-inpaint[0] [1],11")),
    Method("IOPaint cv2", "iopaint", iopaint),
)
#: what ours are called: ``imgedit auto``
PREFIX = "imgedit "


def method(name: str) -> Method:
    if name.startswith(PREFIX):
        return Method(name, "", lambda: erase(name.removeprefix(PREFIX)))
    return next(peer for peer in PEERS if peer.name == name)


def run(name: str, folder: Path, results: Path) -> dict[str, Any]:
    """Fill every case of *folder*; return what is to be said of it."""
    try:
        fill = method(name).make()
    except (ImportError, AttributeError) as error:  # cv2 without contrib has no xphoto
        return {"missing": f"{error}"}
    small = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    hole = np.zeros((64, 64), np.uint8)
    hole[30:34, 20:40] = 255
    fill(small, hole)  # imports are not what is timed
    one_thread()
    seconds, most = [], 0.0
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as case:
            pixels, mask = case["pixels"], case["mask"]
        Path("/proc/self/clear_refs").write_text("5")
        before, start = memory("VmRSS"), processor()
        filled = fill(pixels, mask)
        seconds.append(processor() - start)
        most = max(most, memory("VmHWM") - before)
        np.save(results / f"{path.stem}.npy", filled)
    most += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": seconds, "mib": most}


def one_thread() -> None:
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


def processor() -> float:
    """Return the processor seconds of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def memory(field: str) -> float:
    """Return VmRSS, or VmHWM (the most since it was reset), of this process in MiB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
