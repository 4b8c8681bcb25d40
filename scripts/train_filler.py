"""Train the network behind `erase --backend learned` and write it as ONNX, with a note of how it was made.

    python scripts/train_filler.py OUT.onnx [--steps N] [--scenes N]

Without options this is how the shipped file was made. The same seed draws the same scenes and holes; sums inside
torch depend on the number of threads, so weights agree between machines in quality and not in the last digit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from training import course, onnx_file  # noqa: E402
from training.holes import fonts, hole  # noqa: E402
from training.net import FILLS, Filler  # noqa: E402
from training.scenes import Scenes, turned  # noqa: E402

from imgedit.ops.learned import fills  # noqa: E402

Array = NDArray[Any]
CANVAS = 192
CROP = 128
BATCH = 8
#: of the losses on gradients, on structure and on texture, against the one on pixels
GRADIENT, STRUCTURE, TEXTURE = 0.3, 0.6, 0.1


class Sample(NamedTuple):
    """A scene, its hole, and the fills that the network mixes, all (CANVAS, CANVAS, …) uint8."""

    truth: Array
    mask: Array
    fills: Array


def sample(number: int, seed: int, leave_out: tuple[str, ...]) -> Sample:
    """Draw the scene and the hole of this *number*."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, number))
    scenes, faces = _tools(leave_out)
    truth, mask = scenes.draw(rng), hole(CANVAS, faces, rng)
    every = np.concatenate(fills(truth, mask), axis=2)
    return Sample(truth, mask, np.rint(np.clip(every, 0, 255)).astype(np.uint8))


_TOOLS: dict[tuple[str, ...], tuple[Scenes, list[str]]] = {}


def _tools(leave_out: tuple[str, ...]) -> tuple[Scenes, list[str]]:
    if leave_out not in _TOOLS:
        _TOOLS[leave_out] = (Scenes(CANVAS, leave_out), fonts())
    return _TOOLS[leave_out]


def batches(samples: list[Sample], seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (given, truth, hole) without end: random crops, turned, channels exchanged; pixels in −1…1."""
    rng = np.random.default_rng((seed, 1 << 31))
    while True:
        given, truth, holes = [], [], []
        while len(truth) < BATCH:
            one = samples[int(rng.integers(len(samples)))]
            top, left = (int(v) for v in rng.integers(0, (CANVAS - CROP) // 8 + 1, 2) * 8)
            box = (slice(top, top + CROP), slice(left, left + CROP))
            if np.count_nonzero(one.mask[box]) < 64:
                continue
            way, order = int(rng.integers(8)), rng.permutation(3)
            every = np.concatenate([order + 3 * i for i in range(FILLS)])
            mask = turned(one.mask[box], way)
            given.append(np.dstack([turned(one.fills[box], way)[..., every], mask]))
            truth.append(turned(one.truth[box], way)[..., order])
            holes.append(mask[..., None])
        yield tensor(given), tensor(truth), (tensor(holes) > 0).float()


def tensor(pictures: list[Array]) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(np.stack(pictures))).permute(0, 3, 1, 2)
    return values.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def loss(out: Tensor, given: Tensor, truth: Tensor, holes: Tensor) -> Tensor:
    """Return the loss of both results: pixels and gradients of the likeliest; of the other, structure and texture too.

    Each sample is weighted by one over the error of the first fill: decibels are ratios, and gravel must not drown
    a wall.
    """
    area = holes.sum((1, 2, 3)).clamp(min=1)
    error = ((given[:, :3] - truth).square() * holes).sum((1, 2, 3)) / (3 * area)
    weight = 1 / (error.sqrt() + 0.03)

    def mean(values: Tensor) -> Tensor:
        return (values * weight[:, None, None, None]).sum((1, 2, 3)).div(area).mean()

    def likeness(result: Tensor) -> Tensor:
        value = mean(charbonnier(result - truth)) / 3
        for axis in (2, 3):
            value = value + GRADIENT * mean(charbonnier(torch.diff(result - truth, dim=axis))) / 3
        return value

    likely, sharp = (torch.where(holes > 0, part, truth) for part in (out[:, :3], out[:, 3:]))
    a, b = grey(sharp), grey(truth)
    near = functional.max_pool2d(holes, 5, 1, 2)
    structure = ((1 - similarity(a, b)) * near).sum() / near.sum().clamp(min=1)
    ours, theirs = energy(a), energy(b)
    texture = ((ours - theirs).abs() / (theirs + 0.03) * near).sum() / near.sum().clamp(min=1)
    return likeness(likely) + likeness(sharp) + STRUCTURE * structure + TEXTURE * texture


def energy(values: Tensor) -> Tensor:
    """Return the root mean square of the gradient over windows of 9×9."""
    down, right = torch.diff(values, dim=2)[..., :-1], torch.diff(values, dim=3)[:, :, :-1]
    square = functional.pad(down.square() + right.square(), (0, 1, 0, 1))
    return (functional.avg_pool2d(square, 9, 1, 4) + 1e-6).sqrt()


def charbonnier(values: Tensor) -> Tensor:
    """Return a square near 0 and an absolute value far from it, 0 at 0 (Charbonnier et al., 1994)."""
    return (values.square() + 0.1**2).sqrt() - 0.1


def grey(values: Tensor) -> Tensor:
    return (values * values.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return SSIM over windows of 7×7, for values in −1…1 (Wang, Bovik, Sheikh, Simoncelli, 2004)."""

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 7, 1, 3, count_include_pad=False)

    ma, mb = mean(a + 1), mean(b + 1)
    va, vb, cov = mean(a * a) - (ma - 1) ** 2, mean(b * b) - (mb - 1) ** 2, mean(a * b) - (ma - 1) * (mb - 1)
    c1, c2 = 0.02**2, 0.06**2
    return (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the ONNX file to write; a note goes beside it as OUT.json")
    parser.add_argument("--steps", type=int, default=22000)
    parser.add_argument("--scenes", type=int, default=2400, help="pictures that crops are taken from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=["grace_hopper", "gravel"], help="photographs not to use")
    options = parser.parse_args()
    leave_out = tuple(options.leave_out)
    start = time.time()
    jobs = [(number, options.seed, leave_out) for number in range(options.scenes)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        samples = pool.starmap(sample, jobs, chunksize=8)
    course.say(f"{len(samples)} scenes in {time.time() - start:.0f} s")
    torch.set_num_threads(multiprocessing.cpu_count())
    torch.manual_seed(options.seed)
    net = Filler().to(memory_format=torch.channels_last)
    recent: list[float] = []

    def report(step: int, value: float, _: Filler) -> None:
        recent.append(value)
        if step % 200 == 0 or step == options.steps:
            course.say(
                f"step {step} of {options.steps}, loss {np.mean(recent[-200:]):.4f}, {time.time() - start:.0f} s"
            )

    source = batches(samples, options.seed)

    def value() -> Tensor:
        given, truth, holes = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(given)
        return loss(out.float(), given, truth, holes)

    mean = course.train(net, Filler(), options.steps, value, report)
    about = course.about("train_filler.py", options)
    onnx_file.save(mean, options.out, about)
    course.write_note(options, about, mean, start)


if __name__ == "__main__":
    main()
