"""Train the network behind `upscale --backend hybrid` and write it as ONNX, with a note of how it was made.

    python scripts/train_refiner.py OUT.onnx [--steps N] [--scenes N]

Without options this is how the shipped file was made. The same seed draws the same scenes; sums inside torch depend
on the number of threads, so weights agree between machines in quality and not in the last digit.
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
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from training import course  # noqa: E402
from training.refiner import Refiner, save  # noqa: E402
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


class Sample(NamedTuple):
    """A picture, the same reduced, and that enlarged again, all (rows, columns, 3) uint8."""

    truth: Array
    small: Array
    large: Array


def samples(number: int, seed: int, leave_out: tuple[str, ...]) -> list[tuple[int, Sample]]:
    """Draw the scene of this *number*; return samples of it with their scales."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, number))
    if leave_out not in _TOOLS:
        _TOOLS[leave_out] = Sharp(CANVAS, leave_out)
    scene = _TOOLS[leave_out].draw(rng)
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


_TOOLS: dict[tuple[str, ...], Sharp] = {}


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


def result(net: nn.Module, batch: Batch) -> Tensor:
    """Return the enlarged pictures, back-projected as `ops.residual.projected` does it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        added = net(batch.given.contiguous(memory_format=torch.channels_last), batch.scale)
    out = batch.large + functional.pixel_shuffle(added.float(), batch.scale)
    down, up = (torch.from_numpy(matrix(SMALL, batch.scale)) for matrix in (reduction, expansion))
    return out + up @ (batch.small - down @ out @ down.T) @ up.T


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
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--scenes", type=int, default=2600, help="pictures that crops are taken from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=["grace_hopper", "gravel"], help="photographs not to use")
    options = parser.parse_args()
    leave_out = tuple(options.leave_out)
    start = time.time()
    jobs = [(number, options.seed, leave_out) for number in range(options.scenes)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        drawn = [one for some in pool.starmap(samples, jobs, chunksize=8) for one in some]
    course.say(f"{len(drawn)} samples of {options.scenes} scenes in {time.time() - start:.0f} s")
    torch.set_num_threads(multiprocessing.cpu_count())
    torch.manual_seed(options.seed)
    net = Refiner().to(memory_format=torch.channels_last)
    about = course.about("train_refiner.py", options)
    recent: list[float] = []

    def report(step: int, value: float, mean: Refiner) -> None:
        recent.append(value)
        if step % 500 == 0 or step == options.steps:
            course.say(
                f"step {step} of {options.steps}, loss {np.mean(recent[-500:]):.4f}, {time.time() - start:.0f} s"
            )
            save(mean, options.out, about)

    source = batches(drawn, options.seed)

    def value() -> Tensor:
        batch = next(source)
        return loss(result(net, batch), batch)

    mean = course.train(net, Refiner(), options.steps, value, report)
    course.write_note(options, about, mean, start)


if __name__ == "__main__":
    main()
