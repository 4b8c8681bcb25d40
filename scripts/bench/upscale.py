"""Measure enlarging: quality on reduced photos against plain interpolation, then time and memory at 12 megapixels."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import cbook
from PIL import Image
from skimage import data
from skimage.metrics import structural_similarity
from sklearn.datasets import load_sample_image

from imgedit.backends.upscale.lanczos import Lanczos

Picture = np.ndarray[Any, Any]
SCALES = (1.5, 2, 3, 3.3, 4, 8)


def pillow(method: Image.Resampling) -> Callable[[Picture, int, int], Picture]:
    return lambda small, rows, columns: np.asarray(Image.fromarray(small).resize((columns, rows), method))


def opencv(method: int) -> Callable[[Picture, int, int], Picture]:
    return lambda small, rows, columns: cv2.resize(small, (columns, rows), interpolation=method)


METHODS: dict[str, Callable[[Picture, int, int], Picture]] = {
    "Pillow bicubic": pillow(Image.Resampling.BICUBIC),
    "Pillow Lanczos": pillow(Image.Resampling.LANCZOS),
    "OpenCV cubic": opencv(cv2.INTER_CUBIC),
    "OpenCV Lanczos4": opencv(cv2.INTER_LANCZOS4),
    "imgedit": Lanczos().upscale,
}


def tuning() -> list[Picture]:
    """Return the photos on which defaults were chosen."""
    grey = (data.brick, data.grass, data.gravel, data.camera, data.coins, data.moon, data.page)
    colour = (data.immunohistochemistry, data.hubble_deep_field, data.retina)
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(Image.open(file).convert("RGB"))
    pictures = [load() for load in (*grey, *colour)] + [data.stereo_motorcycle()[0], hopper]
    return [cv2.cvtColor(p, cv2.COLOR_GRAY2RGB) if p.ndim == 2 else p for p in pictures]


def held_out() -> list[Picture]:
    """Return photos on which nothing was chosen."""
    loaded = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    return loaded + [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]


def centre(picture: Picture, scale: float, size: int = 480) -> Picture:
    """Return the middle of *picture*; at whole scales, a size that they divide."""
    rows, columns = (min(length, size) for length in picture.shape[:2])
    if scale == int(scale):
        rows, columns = (length - length % int(scale) for length in (rows, columns))
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def quality(pictures: list[Picture], scale: float) -> dict[str, tuple[float, ...]]:
    """Return, for each method, mean PSNR and SSIM of photos reduced and enlarged again.

    And how far the mean over an input pixel is off, in levels, and how far values leave the range of the
    3×3 input pixels around, at most; and the mean of :func:`stairs`.
    """
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in METHODS}
    for picture in pictures:
        truth = centre(picture, scale)
        size = round(truth.shape[1] / scale), round(truth.shape[0] / scale)
        small = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.BICUBIC))
        for name, method in METHODS.items():
            result = method(small, *truth.shape[:2])
            psnr = 10 * np.log10(255**2 / np.square(result.astype(np.float64) - truth).mean())
            ssim = structural_similarity(truth, result, channel_axis=2)
            again = cv2.resize(result.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            rows[name].append(
                (psnr, ssim, float(np.abs(again - small).max()), overshoot(small, result), stairs(result, scale))
            )
    return {
        name: (*np.mean(values, axis=0)[:2], *np.max(values, axis=0)[2:4], np.mean(values, axis=0)[4])
        for name, values in rows.items()
    }


def overshoot(small: Picture, result: Picture) -> float:
    """Return by how many levels *result* leaves the range of the 3×3 pixels of *small* round it, at most.

    Where an output pixel's centre lies between two input pixels, of those round either.
    """
    (down, below), (across, beside) = (
        ((centres - 1) // (2 * large), centres // (2 * large))
        for large, length in zip(result.shape[:2], small.shape[:2])
        for centres in [(2 * np.arange(large) + 1) * length]
    )
    square = np.ones((3, 3), np.uint8)
    limits = []
    for near, extreme in ((cv2.erode(small, square), np.minimum), (cv2.dilate(small, square), np.maximum)):
        lines = extreme(near[down], near[below])
        limits.append(extreme(lines[:, across], lines[:, beside]).astype(int))
    return float(np.maximum(limits[0] - result, result - limits[1]).max())


def stairs(result: Picture, scale: float) -> float:
    """Return how much more the slope jumps where two input pixels meet than inside them, as a ratio of energies.

    1 where the grid of the input is not to be seen. Only at whole scales from 3; nan at others.
    """
    if scale < 3 or scale != int(scale):
        return float("nan")
    ratios = []
    for lines in (result.mean(axis=2), result.mean(axis=2).T):
        slope = np.diff(lines, axis=1)
        jump = np.square(slope[:, 1:-1] - (slope[:, :-2] + slope[:, 2:]) / 2)
        border = np.arange(1, slope.shape[1] - 1) % scale == scale - 1
        ratios.append(jump[:, border].mean() / jump[:, ~border].mean())
    return float(np.mean(ratios))


def memory(field: str) -> float:
    """Return VmRSS or VmHWM (the most since it was reset) of this process, in megabytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def cost(name: str, scale: float, pipe: Any) -> None:
    """Send wall and processor seconds of the best of three, and megabytes beyond input and output, at 12 megapixels."""
    picture = np.tile(data.immunohistochemistry(), (6, 8, 1))[:3000, :4000].copy()
    rows, columns = round(3000 * scale), round(4000 * scale)
    METHODS[name](picture[:40, :40], 60, 60)
    Path("/proc/self/clear_refs").write_text("5")
    before, times = memory("VmRSS"), []
    for _ in range(3):
        wall, processor = time.perf_counter(), time.process_time()
        size = METHODS[name](picture, rows, columns).nbytes
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    pipe.send((*min(times), memory("VmHWM") - before - size / 2**20))


def main() -> None:
    """Print the tables."""
    for title, pictures in (("tuning photos", tuning()), ("held-out photos", held_out())):
        for scale in SCALES:
            print(
                f"\n{title}, ×{scale:g}: PSNR dB, SSIM, greatest error of the mean, greatest overshoot (levels), stairs"
            )
            for name, values in quality(pictures, scale).items():
                print(f"{name:18s}{values[0]:9.3f}{values[1]:9.4f}{values[2]:9.2f}{values[3]:7.0f}{values[4]:8.2f}")
    for scale in (2, 1.5):
        print(f"\n12 megapixels ×{scale:g}: seconds, processor seconds, MB beyond input and output")
        for name in METHODS:
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            child = multiprocessing.get_context("spawn").Process(target=cost, args=(name, scale, theirs))
            child.start()
            print(f"{name:18s}" + "{:9.2f}{:9.2f}{:9.0f}".format(*ours.recv()))
            child.join()


if __name__ == "__main__":
    main()
