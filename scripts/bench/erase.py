"""Compare the erase backends with the fills of other projects on real photos with drawn text, the truth known.

    python scripts/bench/erase.py [--group tuning|held-out|both] [--method NAME]... [--keep FOLDER] [--json]

Text masks are the drawn pixels dilated by 1; squares are two of 64 pixels, or one of 128. PSNR, SSIM and texture are
taken over the mask dilated by 2 more pixels. Texture: gradient energy of the fill over that of the truth, 1 = kept.
ms: processor time on one thread. Outside: share of the pixels outside the mask that the method itself changes; they
are put back before anything is measured. MiB: beyond what was loaded. Each method runs in a process of its own, peers
in environments of their own (`make peers`), which are listed as not installed where they are not.
No parameter was chosen, and no network trained, by the held-out photos; the network of `learned` has seen the tuning
photos, all but grace_hopper, gravel and moon.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from peers import methods, tables  # noqa: E402
from sample import HELD_OUT, TUNING, photos, stamp  # noqa: E402

from imgedit import registry  # noqa: E402

Array = NDArray[Any]
SIZE = 512
TEXTS = ("date", "caption", "watermark")
SQUARES = ("square 64", "square 128")
GROUPS = {"tuning": TUNING, "held-out": HELD_OUT, "both": (*TUNING, *HELD_OUT)}
ENVIRONMENTS = HERE.parents[1] / ".venv/peers"


class Case(NamedTuple):
    """One picture to repair: *given* has the text, *truth* has not; *mask* is what is to be filled."""

    photo: str
    kind: str
    given: Array
    truth: Array
    mask: Array


class Score(NamedTuple):
    """What is measured of one method on one case; *seconds* of processor time, *outside* as a share."""

    photo: str
    kind: str
    psnr: float
    ssim: float
    texture: float
    seconds: float
    outside: float


class Result(NamedTuple):
    """The scores of one method; without any, *why* it has none."""

    scores: list[Score]
    mib: float = float("nan")
    why: str = ""


def cases(names: Iterable[str], seeds: int = 1) -> Iterator[Case]:
    """Yield every photo, cut to SIZE, with each kind of text and of square holes.

    A photo's cases depend on its name alone. *seeds*: how often, with other texts, fonts, colours and places.
    """
    order = (*TUNING, *HELD_OUT)
    for name, pixels in photos(names).items():
        truth, number = squared(pixels), order.index(name)
        for seed in range(seeds):
            label = name if seed == 0 else f"{name} {seed + 1}"
            for kind in TEXTS:
                given, drawn = stamp(truth, kind=kind, seed=1 + number % 3 + 100 * seed)
                yield Case(label, kind, given, truth, grown((drawn > 0).astype(np.uint8) * 255, 1))
            rng = np.random.default_rng([number, seed] if seed else number)
            for kind, mask in zip(SQUARES, squares(rng)):
                yield Case(label, kind, truth, truth, mask)


def squares(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a mask of two squares of 64 pixels and one of a square of 128, none nearer than 64 to the border."""
    small, large = (np.zeros((SIZE, SIZE), np.uint8) for _ in range(2))
    for left in (64, 288):
        top, shift = (int(v) for v in rng.integers((64, 0), (384, 96)))
        small[top : top + 64, left + shift : left + shift + 64] = 255
    top, left = (int(v) for v in rng.integers(64, SIZE - 64 - 128, 2))
    large[top : top + 128, left : left + 128] = 255
    return small, large


def squared(pixels: Array) -> Array:
    """Return the middle of *pixels* as SIZE × SIZE, made smaller first where it is larger."""
    rows, columns = pixels.shape[:2]
    scale = SIZE / min(rows, columns)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(SIZE, round(columns * scale)), max(SIZE, round(rows * scale)))
    pixels = cv2.resize(pixels, size, interpolation=method)
    top, left = (pixels.shape[0] - SIZE) // 2, (pixels.shape[1] - SIZE) // 2
    return np.ascontiguousarray(pixels[top : top + SIZE, left : left + SIZE])


def grown(mask: Array, reach: int) -> Array:
    return cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))


def score(case: Case, raw: Array, seconds: float) -> Score:
    """Measure what a method returned, with everything outside the mask put back."""
    outside = case.mask == 0
    changed = float((raw != case.given).any(axis=2)[outside].mean())
    filled = np.where(outside[..., None], case.given, raw)
    inside = grown(case.mask, 2) > 0
    error = np.square(filled[inside].astype(np.float64) - case.truth[inside]).mean()
    psnr = float(10 * np.log10(255**2 / max(error, 0.05)))
    ssim = float(ssim_map(filled, case.truth)[inside].mean())
    texture = float(energy(filled)[inside].sum() / max(float(energy(case.truth)[inside].sum()), 1e-9))
    return Score(case.photo, case.kind, psnr, ssim, texture, seconds, changed)


def ssim_map(a: Array, b: Array) -> Array:
    """Return SSIM of the luma with the Gaussian window of 1.5 pixels (Wang, Bovik, Sheikh, Simoncelli, 2004)."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (a, b))

    def mean(values: Array) -> Array:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def energy(pixels: Array) -> Array:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return np.square(np.gradient(luma, axis=0)) + np.square(np.gradient(luma, axis=1))


def every_method() -> list[str]:
    """Return the names of all methods: ours by the registry, so that a new backend is in the table by itself."""
    names = registry.backend_names("fill")
    given = [name for name in names if getattr(registry.listed_class("fill", name), "takes_file", False)]  # weights
    ours = [methods.PREFIX + name for name in names if name not in given]
    return [*ours, *(peer.name for peer in methods.PEERS)]


class Bench:
    """Runs methods on cases by way of files in *folder*.

    A peer whose results on the same cases *folder* holds is not run again.
    """

    def __init__(self, every: Sequence[Case], folder: Path, environments: Path) -> None:
        inputs = hashlib.sha256()
        for case in every:
            inputs.update(case.given.tobytes() + case.mask.tobytes())
        self.cases, self.folder, self.environments = every, folder / inputs.hexdigest()[:12], environments
        (self.folder / "cases").mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(every):
            np.savez(self.folder / f"cases/{number:03}.npz", pixels=case.given, mask=case.mask)

    def measure(self, name: str) -> Result:
        """Return the scores of the method *name*, or why there are none."""
        python = self._python(methods.method(name).home)
        if python is None:
            return Result([], why="not installed; make peers")
        results = self.results(name)
        said = results / "said.json"
        if name.startswith(methods.PREFIX) or not said.is_file():
            results.mkdir(parents=True, exist_ok=True)
            said.unlink(missing_ok=True)
            words = [python, HERE / "peers/methods.py", name, self.folder / "cases", results]
            done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment())
            if done.returncode:
                return Result([], why="failed: " + (done.stderr.strip().splitlines() or ["without a word"])[-1])
            report = json.loads(done.stdout.splitlines()[-1])
            if "missing" in report:
                return Result([], why="not installed: " + report["missing"])
            said.write_text(json.dumps(report))
        report = json.loads(said.read_text())
        raw = (np.load(results / f"{number:03}.npy") for number in range(len(self.cases)))
        scores = [score(case, filled, t) for case, filled, t in zip(self.cases, raw, report["seconds"])]
        return Result(scores, report["mib"])

    def yardstick(self, known: dict[str, Result]) -> Result:
        """Return the scores of the mean of what tables.MEAN_OF returned."""
        lacking = [name for name in tables.MEAN_OF if not known.get(name, Result([])).scores]
        if lacking:
            return Result([], why=f"not measured: needs {', '.join(lacking)}")
        scores = []
        for number, case in enumerate(self.cases):
            parts = [np.load(self.results(name) / f"{number:03}.npy") for name in tables.MEAN_OF]
            mean = np.rint(np.mean(parts, axis=0)).astype(np.uint8)
            scores.append(score(case, mean, sum(known[name].scores[number].seconds for name in tables.MEAN_OF)))
        return Result(scores, max(known[name].mib for name in tables.MEAN_OF))

    def results(self, name: str) -> Path:
        return self.folder / name.replace("/", "-")

    def _python(self, home: str) -> Path | None:
        python = self.environments / home / "bin/python" if home else Path(sys.executable)
        return python if python.is_file() else None


def environment() -> dict[str, str]:
    """Return the surroundings of every method: one thread, no network."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **one, "HF_HUB_OFFLINE": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=GROUPS, default="both")
    parser.add_argument("--seeds", type=int, default=1, help="cases of each kind for each photo")
    parser.add_argument("--method", choices=every_method(), action="append", help="only these; may be repeated")
    parser.add_argument("--keep", type=Path, help="keep cases and results here; known results of peers are used")
    parser.add_argument("--peers", type=Path, default=ENVIRONMENTS, help="folder of the peers' environments")
    parser.add_argument("--jobs", type=int, default=1, help="methods that run at the same time")
    parser.add_argument("--json", action="store_true", help="print every score as one JSON document")
    options = parser.parse_args()
    every = list(cases(GROUPS[options.group], options.seeds))
    names = options.method or every_method()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        bench = Bench(every, options.keep or Path(scratch), options.peers)
        results = dict(zip(names, pool.map(bench.measure, names)))
        results[tables.YARDSTICK] = bench.yardstick(results)
    if options.json:
        plain = {n: {"why": r.why, "mib": r.mib, "scores": [s._asdict() for s in r.scores]} for n, r in results.items()}
        json.dump(plain, sys.stdout)
        return
    for title, of in (("tuning", TUNING), ("held-out", HELD_OUT)):
        if options.group in (title, "both"):
            for line in tables.group(f"{title} photos", results, of):
                print(line)


if __name__ == "__main__":
    main()
