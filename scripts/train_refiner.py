"""Train the network behind `upscale --backend hybrid` and write it as ONNX, with a note of how it was made.

    python scripts/train_refiner.py OUT.onnx [--steps N] [--more N] [--scenes N]

Without options this is how the shipped file was made: a first course on scenes as they are; a second, with a block
more, on patterns as fine as the pixels and on what cameras make too crisp; and the mean of what both came to. The same
seed draws the same scenes; sums inside torch depend on the number of threads, so weights agree between machines in
quality and not in the last digit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from training import course  # noqa: E402
from training.fine import Fine  # noqa: E402
from training.refiner import Refiner, between, grown, save  # noqa: E402
from training.scenes import turned  # noqa: E402
from training.sharp import Sharp  # noqa: E402

from imgedit.ops.enlarge import enlarge  # noqa: E402
from imgedit.ops.residual import SCALES, SEED, UNIT, expansion, given, reduction  # noqa: E402

Array = NDArray[Any]
#: rows and columns of a small picture, and of a scene
SMALL, CANVAS = 48, 192
BATCH = 16
#: how often each scale is drawn
SHARES = (0.4, 0.25, 0.35)
#: of small pictures that are made by means over areas; the others by Pillow's bicubic
AREAS = 0.12
#: of the loss on gradients, against the one on pixels
GRADIENT = 0.25
#: of both courses: what draws scenes, the highest learning rate, and levels of noise, root mean square in a square of
#: so many small pixels, that need not come back by back-projection
COURSES: tuple[tuple[type[Sharp], float, float], ...] = ((Sharp, 1e-3, 0.0), (Fine, 5e-4, 0.5))
NEARBY = 5
#: of the second course in the mean of the weights: all that it gains on photographs, and most of that on patterns
SECOND = 0.7


class Sample(NamedTuple):
    """A picture, the same reduced, and that enlarged again, all (rows, columns, 3) uint8."""

    truth: Array
    small: Array
    large: Array


def samples(number: int, seed: int, leave_out: tuple[str, ...], kind: type[Sharp]) -> list[tuple[int, Sample]]:
    """Draw the scene of this *number*, of this *kind*; return samples of it with their scales."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, number))
    if (kind, leave_out) not in _TOOLS:
        _TOOLS[kind, leave_out] = kind(CANVAS, leave_out)
    scene = _TOOLS[kind, leave_out].draw(rng)
    found = []
    for scale in (2, 2, 3, 4):
        top, left = (int(v) for v in rng.integers(0, CANVAS - SMALL * scale + 1, 2))
        truth = np.ascontiguousarray(scene[top : top + SMALL * scale, left : left + SMALL * scale])
        way = Image.Resampling.BOX if rng.random() < AREAS else Image.Resampling.BICUBIC
        small = np.array(Image.fromarray(truth).resize((SMALL, SMALL), way))
        large = np.empty_like(truth)
        enlarge(small, large, SEED)
        # of flat ground there is enough
        if np.abs(truth.astype(int) - large).mean() > 0.3 or rng.random() < 0.4:
            found.append((scale, Sample(truth, small, large)))
    return found


_TOOLS: dict[tuple[type[Sharp], tuple[str, ...]], Sharp] = {}


class Batch(NamedTuple):
    """What the network is given, and the three pictures of some samples, all in UNIT, as (batch, …, rows, columns)."""

    scale: int
    given: Tensor
    truth: Tensor
    small: Tensor
    large: Tensor


def batches(drawn: list[tuple[int, Sample]], seed: int) -> Iterator[Batch]:
    """Yield batches without end, turned, mirrored, channels exchanged."""
    rng = np.random.default_rng((seed, 1 << 31))
    groups = {scale: [sample for own, sample in drawn if own == scale] for scale in SCALES}
    while True:
        scale = int(rng.choice(SCALES, p=SHARES))
        columns: list[list[Array]] = [[], [], [], []]
        for index in rng.integers(len(groups[scale]), size=BATCH):
            way, order = int(rng.integers(8)), rng.permutation(3)
            pictures = (turned(picture, way)[..., order].astype(np.float32) for picture in groups[scale][index])
            truth, small, large = (np.ascontiguousarray(picture) for picture in pictures)
            columns[0].append(given(small, large, scale))
            for column, picture in zip(columns[1:], (truth, small, large)):
                column.append(picture.transpose(2, 0, 1) / np.float32(UNIT))
        yield Batch(scale, *(torch.from_numpy(np.stack(column)) for column in columns))


def result(net: nn.Module, batch: Batch, noise: float) -> Tensor:
    """Return the enlarged pictures, back-projected as `ops.residual.projected` does it.

    Above 0, *noise* levels of what is lacking are taken as noise and left out, by Wiener's rule.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        added = net(batch.given.contiguous(memory_format=torch.channels_last), batch.scale)
    out = batch.large + functional.pixel_shuffle(added.float(), batch.scale)
    down, up = (torch.from_numpy(matrix(SMALL, batch.scale)) for matrix in (reduction, expansion))
    lacking = batch.small - down @ out @ down.T
    power = functional.pad(lacking.square().mean(1, keepdim=True), [NEARBY // 2] * 4, mode="replicate")
    power = functional.avg_pool2d(power, NEARBY, stride=1)
    lacking = lacking * (1 - (noise / UNIT) ** 2 / power.clamp_min(1e-9)).clamp_min(0)
    return out + up @ lacking @ up.T


def loss(out: Tensor, batch: Batch) -> Tensor:
    """Return the loss on pixels and on gradients.

    Each sample is weighted by one over the error of the deterministic result: decibels are ratios, and gravel must
    not drown a wall.
    """
    off = out - batch.truth
    weight = 1 / ((batch.large - batch.truth).abs().mean((1, 2, 3)) + 0.2 / UNIT)

    def mean(values: Tensor) -> Tensor:
        return (charbonnier(values).mean((1, 2, 3)) * weight).mean()

    return mean(off) + GRADIENT * (mean(torch.diff(off, dim=2)) + mean(torch.diff(off, dim=3)))


def charbonnier(values: Tensor) -> Tensor:
    """Return a square within half a level of 0 and an absolute value far from it (Charbonnier et al., 1994)."""
    return (values.square() + (0.5 / UNIT) ** 2).sqrt() - 0.5 / UNIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the ONNX file to write; a note goes beside it as OUT.json")
    parser.add_argument("--steps", type=int, default=9000, help="of the first course")
    parser.add_argument("--more", type=int, default=6000, help="steps of the second course")
    parser.add_argument("--scenes", type=int, default=2600, help="pictures that crops are taken from, for each course")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=["grace_hopper", "gravel"], help="photographs not to use")
    options = parser.parse_args()
    start = time.time()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(options.seed)
    about = course.about("train_refiner.py", options, "more")
    net = grown(run(0, Refiner(), options, about, threads))
    net = between(net, run(1, deepcopy(net), options, about, threads), SECOND)
    save(net, options.out, about)
    course.write_note(options, about, net, start)


def run(number: int, net: Refiner, options: argparse.Namespace, about: dict[str, str], threads: int) -> Refiner:
    """Return what *net* has become by the course of this *number*; it is written every 500 steps too."""
    kind, rate, noise = COURSES[number]
    start, steps = time.time(), (options.steps, options.more)[number]
    first = number * options.scenes
    jobs = [(scene, options.seed, tuple(options.leave_out), kind) for scene in range(first, first + options.scenes)]
    with multiprocessing.get_context("spawn").Pool(threads) as pool:
        drawn = [one for some in pool.starmap(samples, jobs, chunksize=8) for one in some]
    course.say(f"course {number + 1}: {len(drawn)} samples of {options.scenes} scenes in {time.time() - start:.0f} s")
    recent: list[float] = []

    def report(step: int, value: float, mean: Refiner) -> None:
        recent.append(value)
        if step % 500 == 0 or step == steps:
            course.say(f"step {step} of {steps}, loss {np.mean(recent[-500:]):.4f}, {time.time() - start:.0f} s")
            save(mean, options.out, about)

    source = batches(drawn, options.seed + number)
    mean = deepcopy(net)
    net = net.to(memory_format=torch.channels_last)

    def value() -> Tensor:
        batch = next(source)
        return loss(result(net, batch, noise), batch)

    return course.train(net, mean, steps, value, report, rate)


if __name__ == "__main__":
    main()
