"""Peak memory of `imgedit upscale` from file to file, over sizes of pictures, at fixed memory targets.

What is counted is the most resident memory of the whole process, as the system reports it: the program itself, its
libraries and every page of a file that is mapped included.

    python scripts/bench/upscale_memory.py [--backend lanczos hybrid spandrel] [--megapixels 1 4 16 …] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from imgedit import codec, spill  # noqa: E402
from imgedit.frame import Frame  # noqa: E402

BACKENDS = ("lanczos", "hybrid", "spandrel")
#: 10⁹ bytes; torch alone takes 0.3
TARGETS = {"lanczos": (0.25,), "hybrid": (0.25, 0.5), "spandrel": (0.5,)}
MEGAPIXELS = {"lanczos": (1, 4, 16, 36, 100), "hybrid": (1, 4, 9), "spandrel": (1, 4, 9, 36)}
KINDS = ("rgb", "rgba", "rgb16", "planes", "jpeg", "tiff")
#: run in a process of its own, whose only child is the command
_MEASURED = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run([sys.executable, *sys.argv[1:]]).returncode\n"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "print(code, used.ru_maxrss, used.ru_utime + used.ru_stime)"
)


def photo(side: int, kind: str) -> Frame:
    """Return a square picture with waves and noise, of *side* pixels; made by rows, so that it can be any size."""
    deep = kind.endswith("16")
    full, dtype = (65535, np.uint16) if deep else (255, np.uint8)
    pixels, rest = spill.empty((side, side, 3), dtype), spill.empty((side, side), dtype)
    random = np.random.default_rng(0)
    across = np.arange(side, dtype=np.float32)
    for top in range(0, side, 64):
        down = np.arange(top, min(top + 64, side), dtype=np.float32)[:, None]
        waves = 0.5 + 0.3 * np.sin(across / 37) * np.cos(down / 53)
        noise = random.standard_normal((len(down), side, 3), np.float32) * np.float32(0.05)
        values = np.clip((waves[..., None] + noise) * full, 0, full).astype(dtype)
        spill.store(pixels[top : top + 64], values)
        spill.store(rest[top : top + 64], np.ascontiguousarray(values[..., 0]))
    if kind == "planes":
        return Frame(pixels, mask=rest, planes={"hint": rest})
    return Frame(pixels, alpha=rest if "a" in kind else None)


def write(folder: Path, side: int, kind: str) -> Path:
    """Write such a picture, once; return where."""
    path = folder / f"{kind}-{side}.{ {'jpeg': 'jpg', 'tiff': 'tif'}.get(kind, 'png') }"
    if not path.exists():
        frame = photo(side, kind)
        if path.suffix == ".png":
            codec.write_file(frame, path)
        else:
            cv2.imwrite(str(path), cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
    return path


def measured(folder: Path, backend: str, source: Path, target: float) -> dict[str, Any]:
    """Return exit code, peak megabytes (10⁶ bytes), seconds of processor time and the step's notes of one run."""
    command = ["-m", "imgedit", "upscale", str(source), "-o", "out.png", "--backend", backend, "--scale", "2"]
    command += ["--memory-target-gb", str(target), "--max-pixels", "500000000"]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], cwd=folder, env=_env(), stdout=subprocess.PIPE, check=True
    )
    code, peak, seconds = done.stdout.decode().split()
    notes = json.loads((folder / "out.png.json").read_text())["steps"][-1].get("notes", {}) if code == "0" else {}
    return {"code": int(code), "peak_mb": int(peak) * 1024 / 1e6, "cpu_seconds": float(seconds), "notes": notes}


def _env() -> dict[str, str]:
    folders = (ROOT, ROOT / "tests", ROOT / "tests" / "operators")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=("rgb",))
    parser.add_argument("--megapixels", nargs="+", type=float)
    parser.add_argument("--target", nargs="+", type=float, metavar="GB")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    # making the pictures is held to the same
    spill.configure(250_000_000)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backend in given.backend:
            asked = backend
            if backend == "spandrel":
                code = "import sys, pathlib, nets; print(nets.real('compact2', pathlib.Path(sys.argv[1])))"
                made = subprocess.run(
                    [sys.executable, "-c", code, name], env=_env(), stdout=subprocess.PIPE, check=True
                )
                asked = f"spandrel:{made.stdout.decode().strip()}"
            for kind in given.kind:
                for target in given.target or TARGETS[backend]:
                    for size in given.megapixels or MEGAPIXELS[backend]:
                        source = write(folder, round(1000 * size**0.5), kind)
                        row = {"backend": backend, "kind": kind, "target_gb": target, "megapixels": size}
                        row |= measured(folder, asked, source, target)
                        rows.append(row)
                        print(
                            f"{backend:9} {kind:7} target {target:g} GB  {size:6g} MP  {row['peak_mb']:6.0f} MB  "
                            f"{row['cpu_seconds']:7.1f} s  {row['notes'].get('memory', '') or ''}",
                            flush=True,
                        )
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
