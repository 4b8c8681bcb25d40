"""Compare the erase backends with OpenCV's own fills on real photos with drawn text, the truth known.

    python scripts/bench/erase.py [--json]

Text masks are the drawn pixels dilated by 1; squares are 64 pixels wide. PSNR, SSIM and texture are taken over
the mask dilated by 2 more pixels. Texture: gradient energy of the fill over that of the truth, 1 = kept. Photos in
the second group of rows were used to choose no parameter. Each method runs in a process of its own, so that peak
memory (beyond the loaded pictures) is its own too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from sample import HELD_OUT, TUNING, photos, stamp  # noqa: E402

from imgedit import registry  # noqa: E402
from imgedit.frame import Frame  # noqa: E402
from imgedit.stages.erase import erase  # noqa: E402

Array = NDArray[Any]
SIZE = 512
TEXTS = ("date", "caption", "watermark")
OURS = ("flat", "harmonic", "telea", "ns", "auto")
CASES = (*TEXTS, "square")


class Case(NamedTuple):
    """One picture to repair: *given* has the text, *truth* has not; *mask* is what is to be filled."""

    photo: str
    kind: str
    given: Array
    truth: Array
    mask: Array


class Score(NamedTuple):
    psnr: float
    ssim: float
    texture: float
    seconds: float


def cases() -> Iterator[Case]:
    """Yield every photo, cut to SIZE, with each kind of text and with two square holes."""
    for number, (name, pixels) in enumerate(photos((*TUNING, *HELD_OUT)).items()):
        truth = squared(pixels)
        for kind in TEXTS:
            given, drawn = stamp(truth, kind=kind, seed=1 + number % 3)
            yield Case(name, kind, given, truth, grown((drawn > 0).astype(np.uint8) * 255, 1))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        rng = np.random.default_rng(number)
        for left in (64, 288):
            top, shift = (int(v) for v in rng.integers((64, 0), (384, 96)))
            mask[top : top + 64, left + shift : left + shift + 64] = 255
        yield Case(name, "square", truth, truth, mask)


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


def methods() -> dict[str, Callable[[Array, Array], Array]]:
    """Return name → fill, ours by the stage as it is called by users; others where they are installed."""
    found: dict[str, Callable[[Array, Array], Array]] = {f"imgedit {name}": ours(name) for name in OURS}
    found["cv2 Telea, radius 3"] = lambda p, m: cv2.inpaint(p, m, 3, cv2.INPAINT_TELEA)
    found["cv2 NS, radius 3"] = lambda p, m: cv2.inpaint(p, m, 3, cv2.INPAINT_NS)
    if hasattr(cv2, "xphoto"):
        found["cv2 FSR fast"] = fsr
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError:
        return found
    found["skimage biharmonic"] = lambda p, m: np.rint(
        np.clip(inpaint_biharmonic(p, m > 0, channel_axis=2), 0, 1) * 255
    ).astype(np.uint8)
    return found


def ours(name: str) -> Callable[[Array, Array], Array]:
    backend = registry.backend("fill", name)
    return lambda pixels, mask: erase(Frame(pixels.copy(), mask=mask.copy()), backend).pixels


def fsr(pixels: Array, mask: Array) -> Array:
    """Fill by frequency selective reconstruction, which wants Lab and a mask of what is known."""
    out = np.zeros_like(pixels)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    cv2.xphoto.inpaint(lab, 255 - mask, out, cv2.xphoto.INPAINT_FSR_FAST)
    filled = cv2.cvtColor(out, cv2.COLOR_LAB2RGB)
    return np.where(mask[..., None] > 0, filled, pixels)


def score(case: Case, filled: Array, seconds: float) -> Score:
    inside = grown(case.mask, 2) > 0
    error = np.square(filled[inside].astype(np.float64) - case.truth[inside]).mean()
    psnr = float(10 * np.log10(255**2 / max(error, 0.05)))
    ssim = float(ssim_map(filled, case.truth)[inside].mean())
    texture = float(energy(filled)[inside].sum() / max(float(energy(case.truth)[inside].sum()), 1e-9))
    return Score(psnr, ssim, texture, seconds)


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


def measure(name: str) -> tuple[list[tuple[str, str, Score]], float]:
    """Return the scores of one method on every case, and the memory it took beyond the loaded pictures, in MiB."""
    cv2.setNumThreads(1)
    every = list(cases())
    fill = methods()[name]
    small = np.zeros((16, 16, 3), np.uint8)
    fill(small, grown(np.eye(16, dtype=np.uint8)[::-1] * np.uint8(255), 1))  # imports are not what is timed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in every[: 2 * len(CASES)]:
        fill(case.given, case.mask)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    scores = []
    for case in every:
        start = time.perf_counter()
        filled = fill(case.given, case.mask)
        scores.append((case.photo, case.kind, score(case, filled, time.perf_counter() - start)))
    return scores, memory


def table(results: dict[str, tuple[list[tuple[str, str, Score]], float]]) -> Iterator[str]:
    groups = (("photos used for tuning", TUNING), ("photos never used for tuning", HELD_OUT))
    for title, names in groups:
        count = len({photo for photo, _, _ in next(iter(results.values()))[0] if photo in names})
        yield f"{title} ({count}); PSNR: mean (median), dB; SSIM, texture, ms: mean"
        yield f"{'':22}" + "".join(f"{kind:^39}" for kind in CASES) + "  MiB"
        yield f"{'':22}" + f"{'PSNR':>14}{'SSIM':>8}{'texture':>8}{'ms':>7}  " * len(CASES)
        for method, (scores, memory) in results.items():
            cells = []
            for kind in CASES:
                own = [s for photo, of, s in scores if of == kind and photo in names]
                columns = list(zip(*own))
                mean = [float(np.mean(c)) for c in columns]
                median = float(np.median(columns[0]))
                cells.append(f"{mean[0]:7.2f}({median:5.2f}){mean[1]:8.3f}{mean[2]:8.2f}{1000 * mean[3]:7.0f}  ")
            yield f"{method:22}" + "".join(cells) + f"{memory:5.0f}"
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print every score as one JSON document")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        results = {name: pool.apply(measure, (name,)) for name in methods()}
    if options.json:
        plain = {name: [(p, k, s._asdict()) for p, k, s in scores] for name, (scores, _) in results.items()}
        json.dump(plain, sys.stdout)
        return
    for line in table(results):
        print(line)


if __name__ == "__main__":
    main()
