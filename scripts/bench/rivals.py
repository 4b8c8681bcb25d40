"""Time one cold command, one erase inside a process, and a folder of pictures, against IOPaint's `run`.

    python scripts/bench/rivals.py [--runs N] [--pictures N] [--peers FOLDER]

All pictures are held-out photos with a date, a caption or a watermark drawn on them, and the mask is that of the erase
benchmark. Both commands read a PNG and its mask and write a PNG. Seconds are medians, wall clock and processor of all
threads; MiB is the peak of the whole process. PSNR over the mask dilated by 2 is the mean of all pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import erase as bench  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from sample import HELD_OUT, photos, stamp  # noqa: E402

from imgedit.frame import Frame  # noqa: E402

SIZES = (512, 2048)
#: the default, and the fastest
BACKENDS = ("auto", "harmonic")


class Cost(NamedTuple):
    """Wall and processor seconds, and the peak of the process in MiB."""

    wall: float
    processor: float
    mib: float


def command(words: list[object], folder: Path) -> Cost:
    """Run *words* in *folder* to its end. Raises RuntimeError with what it said where it fails."""
    said = folder / "said"
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder)}
    start = time.perf_counter()
    with said.open("wb") as file:
        child = subprocess.Popen(list(map(str, words)), cwd=folder, stdout=file, stderr=file, env=env)
        _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{words[0]} failed: {said.read_text(errors='replace')[-2000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def ours(pictures: Path, out: Path, backend: str) -> list[object]:
    """Return our command on a folder of ``x.png`` with ``x.mask.png``."""
    return [sys.executable, "-m", "imgedit", "erase", "-q", "--backend", backend, pictures, "-o", out]


def theirs(python: Path, pictures: Path, out: Path) -> list[object]:
    """Return IOPaint's command on the same pictures; it wants the masks in a folder of their own."""
    images, masks = pictures.with_name("images"), pictures.with_name("masks")
    return [python.with_name("iopaint"), "run", "--model=cv2", "--image", images, "--mask", masks, "--output", out]


def write(folder: Path, every: list[bench.Case]) -> Path:
    """Write the pictures of *every* for both commands; return the folder for ours."""
    for name in ("pictures", "images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, case in enumerate(every):
        picture, mask = Image.fromarray(case.given), Image.fromarray(case.mask)
        picture.save(folder / f"pictures/{number:03}.png")
        mask.save(folder / f"pictures/{number:03}.mask.png")
        picture.save(folder / f"images/{number:03}.png")
        mask.save(folder / f"masks/{number:03}.png")
    return folder / "pictures"


def pictures_of(count: int) -> list[bench.Case]:
    """Return *count* cases of text, each another part of a held-out photo, mirrored or not."""
    rng, every, whole = np.random.default_rng(0), [], list(photos(HELD_OUT).values())
    for number in range(count):
        pixels = whole[number % len(whole)]
        rows, columns = pixels.shape[:2]
        side = min(rows, columns, int(rng.integers(bench.SIZE // 2, 2 * bench.SIZE)))
        top, left = int(rng.integers(rows - side + 1)), int(rng.integers(columns - side + 1))
        truth = bench.squared(pixels[top : top + side, left : left + side][:, :: 1 - 2 * (number % 2)])
        kind = bench.TEXTS[number % len(bench.TEXTS)]
        given, drawn = stamp(truth, kind=kind, seed=number)
        every.append(bench.Case(f"{number}", kind, given, truth, bench.grown((drawn > 0).astype(np.uint8) * 255, 1)))
    return every


def psnr(every: list[bench.Case], out: Path) -> float:
    """Return the mean PSNR of the results in *out*, as the erase benchmark takes it."""
    results = [np.asarray(Image.open(out / f"{number:03}.png").convert("RGB")) for number in range(len(every))]
    return float(np.mean([bench.score(case, result, 0).psnr for case, result in zip(every, results)]))


def line(label: str, our: Cost, their: Cost | None, note: str = "") -> None:
    print(f"{label:34}{our.wall:9.3f}{our.processor:10.3f}{our.mib:7.0f}", end="")
    if their is None:
        print(f"   {note}")
        return
    print(f"{their.wall:11.2f}{their.processor:10.2f}{their.mib:7.0f}", end="")
    print(f"{our.wall / their.wall:9.3f}{our.processor / their.processor:10.3f}  {note}")


def middle(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(column) for column in zip(*costs)))


def folder_of(count: int, runs: int, iopaint: Path | None) -> None:
    """Print the cost of one command on *count* pictures, by each of our BACKENDS and by IOPaint, in turn."""
    every = pictures_of(count)
    costs: dict[str, list[Cost]] = {name: [] for name in (*BACKENDS, *(("iopaint",) if iopaint else ()))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = write(folder, every)
        for run in range(runs):
            for who, spent in costs.items():
                out = folder / f"{who}-{run}"
                if iopaint and who == "iopaint":
                    words = theirs(iopaint, pictures, out)
                else:
                    out.mkdir()
                    words = ours(pictures, out, who)
                spent.append(command(words, folder))
        their = middle(costs["iopaint"]) if iopaint else None
        for backend in BACKENDS:
            our = middle(costs[backend])
            note = f"PSNR {psnr(every, folder / f'{backend}-0'):.2f} dB"
            if their:
                note += f" against {psnr(every, folder / 'iopaint-0'):.2f}"
                note += f"; {count / our.wall:.1f} pictures a second against {count / their.wall:.2f}"
                note += f", {their.wall / our.wall:.1f} times the throughput"
            line(f"{count} picture{'s' * (count > 1)} {bench.SIZE}×{bench.SIZE}, {backend}", our, their, note)


def inside(size: int, runs: int) -> dict[str, Any]:
    """Return what `erase` takes in this process at *size*: the first call and the median of the others."""
    from imgedit import registry
    from imgedit.engine import peak_memory_mb
    from imgedit.stages.erase import erase

    # a photo of 512×512 beside itself: enlarged, it would be smoother than photos of that size are
    truth = np.tile(photos(["ihc"])["ihc"], (size // 512, size // 512, 1))
    given, drawn = stamp(truth, kind="date", seed=1)
    frame = Frame(given, mask=bench.grown((drawn > 0).astype(np.uint8) * 255, 1))
    before, times = peak_memory_mb(), []
    for _ in range(runs + 1):
        wall, processor = time.perf_counter(), time.process_time()
        erase(frame, registry.backend("fill", "auto"))
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    again = [statistics.median(column) for column in zip(*times[1:])]
    return {"first": times[0], "again": again, "before": before, "peak": peak_memory_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--peers", type=Path, default=bench.ENVIRONMENTS)
    parser.add_argument("--inside", type=int, metavar="SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(options.inside, options.runs)))
        return
    python = options.peers / "iopaint/bin/python"
    iopaint = python if python.is_file() else None
    print(f"{'imgedit erase':>55}{'IOPaint run, cv2':>27}{'ratio':>14}" if iopaint else "IOPaint: not installed")
    columns = f"{'wall s':>9}{'proc. s':>10}{'MiB':>7}"
    print(f"{'':34}{columns}" + (f"{'wall s':>11}{'proc. s':>10}{'MiB':>7}{'wall':>9}{'proc.':>10}" if iopaint else ""))
    folder_of(1, options.runs, iopaint)
    folder_of(options.pictures, 1, iopaint)
    print("\nerase in a process, date stamp; seconds: first call, then median of the others")
    for size in SIZES:
        words = [sys.executable, __file__, "--inside", str(size), "--runs", str(options.runs)]
        said: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        (first, first_p), (again, again_p) = said["first"], said["again"]
        print(
            f"{size}×{size}: wall {first:.3f}, {again:.3f}; processor {first_p:.3f}, {again_p:.3f}; "
            f"peak {said['peak']:.0f} MiB, of it {said['before']:.0f} before"
        )


if __name__ == "__main__":
    main()
