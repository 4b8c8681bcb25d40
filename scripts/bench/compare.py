"""Time the comparison of two 12-megapixel pictures: ours, ImageMagick's compare, scikit-image.

python scripts/bench/compare.py [ROUNDS]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from imgedit.ops import metrics
from imgedit.ops.pairs import pair

ROWS, COLUMNS = 3000, 4000


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Return a photograph at 12 megapixels with some grain, and the same with other grain: nearly all pixels differ."""
    photo = cv2.resize(data.stereo_motorcycle()[0], (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    first, second = (photo.copy() for _ in range(2))
    for seed, pixels in enumerate((first, second)):
        grain = np.random.default_rng(seed).normal(0, 2, photo.shape[:2]).round().astype(np.int16)
        for channel in range(3):
            pixels[..., channel] = np.clip(photo[..., channel] + grain, 0, 255)
    return first, second


def median(function: Callable[[], object], rounds: int) -> float:
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(*words: object) -> Callable[[], object]:
    def run() -> None:
        done = subprocess.run([str(word) for word in words], capture_output=True)
        if done.returncode > 1:  # ImageMagick says 1 for pictures that differ
            raise RuntimeError(done.stderr.decode())

    return run


def skimage_colour(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean CIEDE2000 as scikit-image computes it, in bands: whole pictures would need gigabytes."""
    bands = range(0, ROWS, 300)
    return float(
        np.mean([deltaE_ciede2000(rgb2lab(first[r : r + 300]), rgb2lab(second[r : r + 300])).mean() for r in bands])
    )


def skimage_ssim(first: np.ndarray, second: np.ndarray) -> float:
    x, y = (cv2.cvtColor(p.astype(np.float32), cv2.COLOR_RGB2GRAY) for p in (first, second))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(x, y, data_range=255, **options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    rounds = parser.parse_args().rounds
    first, second = pictures()
    both = pair(first, second)
    names = ["rmse", "psnr", "de2000"]
    table: list[tuple[str, float]] = [
        ("arrays: rmse, psnr", median(lambda: metrics.measure(both, names[:2]), rounds)),
        ("arrays: rmse, psnr, de2000", median(lambda: metrics.measure(both, names), rounds)),
        ("arrays: the same, 3 % of the pixels differ", 0.0),
        ("arrays: ssim", median(lambda: metrics.measure(both, ["ssim"]), rounds)),
        ("arrays: ms_ssim", median(lambda: metrics.measure(both, ["ms_ssim"]), rounds)),
        ("arrays: gmsd", median(lambda: metrics.measure(both, ["gmsd"]), rounds)),
        ("arrays: gradient_ratio", median(lambda: metrics.measure(both, ["gradient_ratio"]), rounds)),
    ]
    edited = first.copy()
    edited[1000:1600, 1000:1600] = second[1000:1600, 1000:1600]
    few = pair(first, edited)
    table[2] = (table[2][0], median(lambda: metrics.measure(few, names), rounds))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.png", "b.png")]
        for path, pixels in zip(paths, (first, second)):
            cv2.imwrite(str(path), pixels[..., ::-1])
        ours = [sys.executable, "-m", "imgedit", "compare", paths[0], "--reference", paths[1], "--json"]
        table.append(("imgedit compare (rmse, psnr, max, changed, de2000)", median(command(*ours), rounds)))
        table.append(("imgedit compare --metric all", median(command(*ours, "--metric", "all"), 1)))
        if shutil.which("compare"):
            rival = median(command("compare", "-metric", "RMSE", *paths, "null:"), rounds)
            table.append(("ImageMagick compare -metric RMSE", rival))
    table.append(("scikit-image: ssim alone", median(lambda: skimage_ssim(first, second), 1)))
    table.append(("scikit-image: de2000 alone", median(lambda: skimage_colour(first, second), 1)))
    base = table[7][1]
    print(f"{COLUMNS}×{ROWS}, medians of {rounds}; ratio to imgedit compare")
    for name, seconds in table:
        print(f"{name:52} {seconds:7.3f} s  {seconds / base:6.2f}")


if __name__ == "__main__":
    main()
