"""Train the network behind `mask --fit glyph` for faint text and write it as ONNX, with a note of how it was made.

    python scripts/train_strokes.py OUT.onnx [--steps N] [--scenes N]

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
from torch import Tensor
from torch.nn import functional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from training import course  # noqa: E402
from training.letters import Letters, Sample  # noqa: E402
from training.scenes import SOURCES, WALLPAPERS  # noqa: E402
from training.stroker import Stroker, save  # noqa: E402

from imgedit.ops.strokes import given, straight  # noqa: E402

Array = NDArray[Any]
PHOTOGRAPHS = (*SOURCES, *WALLPAPERS)
#: sides of a scene, rows and columns of what the network is shown in training
CANVAS, ROWS, COLUMNS = 448, 72, 144
BATCH = 16
#: samples of one scene, and tries to get them
EACH, TRIES = 14, 30
#: what the ground outside the box counts, against that inside
OUTSIDE = 0.2
#: of the loss, the part of Dice
DICE = 0.5
#: processes that draw samples
PROCESSES = 2


class Shown(NamedTuple):
    """One sample: (CHANNELS, ROWS, COLUMNS) float16, and its strokes and their weight, (2, ROWS, COLUMNS) uint8."""

    given: Array
    wanted: Array


def samples(number: int, seed: int, leave_out: tuple[str, ...]) -> list[Shown]:
    """Draw the scene of this *number*; return samples of text on it."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, number))
    if leave_out not in _TOOLS:
        _TOOLS[leave_out] = Letters(CANVAS, leave_out, PHOTOGRAPHS)
    letters = _TOOLS[leave_out]
    scene = letters.scene(rng)
    found: list[Shown] = []
    for _ in range(TRIES):
        sample = letters.draw(scene, rng)
        if sample is not None:
            found.append(shown(sample, rng))
        if len(found) == EACH:
            break
    return found


_TOOLS: dict[tuple[str, ...], Letters] = {}


def shown(sample: Sample, rng: np.random.Generator) -> Shown:
    """Return a window of the box laid straight, as the network is given it."""
    laid = straight(sample.picture, sample.box)
    columns, rows = laid.planes.shape[1], laid.planes.shape[0]
    scale = float(np.hypot(*laid.matrix[0, :2]))
    # each pixel of what is wanted is the share of strokes in what it stands for
    side = max(1, round(1 / scale))
    text = cv2.warpAffine(cv2.blur(sample.text, (side, side)), laid.matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    weight = np.maximum(laid.planes[..., 4], np.uint8(255 * OUTSIDE))
    weight[laid.area[1] :] = weight[:, laid.area[0] :] = 0
    wanted = np.stack([text, weight])
    left = int(rng.integers(0, max(columns - COLUMNS, 0) + 1))
    planes, wanted = laid.planes[:ROWS, left : left + COLUMNS], wanted[:, :ROWS, left : left + COLUMNS]
    below, right = ROWS - planes.shape[0], COLUMNS - planes.shape[1]
    seen = np.pad(given(np.ascontiguousarray(planes)), ((0, 0), (0, below), (0, right)), mode="edge")
    return Shown(seen.astype(np.float16), np.pad(wanted, ((0, 0), (0, below), (0, right))))


class Batch(NamedTuple):
    """What the network is given, what is wanted, 0…1, and what each pixel counts: (batch, …, rows, columns)."""

    given: Tensor
    wanted: Tensor
    weight: Tensor


def batches(drawn: list[Shown], seed: int) -> Iterator[Batch]:
    """Yield batches without end, mirrored, channels exchanged, light and dark exchanged."""
    rng = np.random.default_rng((seed, 1 << 31))
    order: list[int] = []
    while True:
        columns: tuple[list[Array], list[Array]] = ([], [])
        for _ in range(BATCH):
            if not order:
                order = rng.permutation(len(drawn)).tolist()
            seen, wanted = drawn[order.pop()]
            mix = rng.permutation(3)
            sign = np.float32(rng.choice([-1, 1]))
            seen = np.concatenate([sign * seen[:3][mix], sign * seen[3:6][mix], seen[6:]])
            # letters stand on their heads as often as lines are read the wrong way up, and mirrored for variety
            across, along = (int(v) for v in rng.choice([1, 1, -1], 2))
            columns[0].append(seen[:, ::across, ::along].astype(np.float32))
            columns[1].append(wanted[:, ::across, ::along].astype(np.float32) / np.float32(255))
        seen, wanted = (torch.from_numpy(np.stack(column)) for column in columns)
        yield Batch(seen, wanted[:, :1], wanted[:, 1:])


def loss(out: Tensor, batch: Batch) -> Tensor:
    """Return cross entropy and one less the soft Dice coefficient (Milletari et al., "V-Net", 2016, equation 1)."""
    entropy = functional.binary_cross_entropy_with_logits(out, batch.wanted, reduction="none")
    mean = (entropy * batch.weight).sum() / batch.weight.sum()
    likely = torch.sigmoid(out)
    common = (batch.weight * likely * batch.wanted).sum((1, 2, 3))
    both = (batch.weight * (likely + batch.wanted)).sum((1, 2, 3))
    # a box without text has nothing in common with anything
    dice = 1 - (2 * common + 50) / (both + 50)
    return mean + DICE * dice.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the ONNX file to write; a note goes beside it as OUT.json")
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--scenes", type=int, default=1200, help="pictures that text is drawn on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=["grace_hopper", "gravel"], help="photographs not to use")
    options = parser.parse_args()
    leave_out = tuple(options.leave_out)
    start = time.time()
    jobs = [(number, options.seed, leave_out) for number in range(options.scenes)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        drawn = [one for some in pool.starmap(samples, jobs, chunksize=4) for one in some]
    course.say(f"{len(drawn)} samples of {options.scenes} scenes in {time.time() - start:.0f} s")
    torch.manual_seed(options.seed)
    net = Stroker().to(memory_format=torch.channels_last)
    about = course.about("train_strokes.py", options)
    recent: list[float] = []

    def report(step: int, value: float, mean: Stroker) -> None:
        recent.append(value)
        if step % 250 == 0 or step == options.steps:
            course.say(
                f"step {step} of {options.steps}, loss {np.mean(recent[-250:]):.4f}, {time.time() - start:.0f} s"
            )
            save(mean, options.out, about)

    source = batches(drawn, options.seed)

    def value() -> Tensor:
        batch = next(source)
        return loss(net(batch.given.contiguous(memory_format=torch.channels_last)), batch)

    mean = course.train(net, Stroker(), options.steps, value, report)
    course.write_note(options, about, mean, start, PHOTOGRAPHS)


if __name__ == "__main__":
    main()
