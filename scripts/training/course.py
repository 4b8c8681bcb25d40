"""The course of a training, the same for each network: steps, the running mean of the weights, the note beside them."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from training.scenes import SOURCES, Source, used

RATE = 1e-3
#: of the running mean of the weights, which is what is written
DECAY = 0.999

Net = TypeVar("Net", bound=nn.Module)


def train(
    net: Net,
    mean: Net,
    steps: int,
    loss: Callable[[], Tensor],
    report: Callable[[int, float, Net], None],
    rate: float = RATE,
) -> Net:
    """Return *mean*, a network of the same kind, as the running mean of *net* while it was trained for *steps*.

    *loss* returns that of the next batch; *report* is called after each step with its number, the loss and the mean.
    *rate*: the highest learning rate.
    """
    mean.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.04)
    for step in range(1, steps + 1):
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            decay = min(DECAY, step / (step + 10))
            for kept, new in zip(mean.parameters(), net.parameters()):
                kept.lerp_(new, 1 - decay)
        report(step, float(value.detach()), mean)
    return mean


def about(script: str, options: argparse.Namespace, *more: str) -> dict[str, str]:
    """Return licence and command of weights made by *script* with *options*, as the file itself holds them.

    *more*: names of options of this script alone.
    """
    command = f"python scripts/{script} {options.out.name} --steps {options.steps}"
    command += "".join(f" --{name} {getattr(options, name)}" for name in more) + f" --scenes {options.scenes}"
    command += f" --seed {options.seed} --leave-out {' '.join(options.leave_out)}"
    return {"licence": "Apache-2.0", "command": command.rstrip()}


def write_note(
    options: argparse.Namespace,
    said: dict[str, str],
    net: nn.Module,
    start: float,
    sources: tuple[Source, ...] = SOURCES,
) -> None:
    """Write how the file was made beside it: *said*, digest, size, the time since *start*, and what it was shown."""
    note = {
        **said,
        "sha256": hashlib.sha256(options.out.read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seed": options.seed,
        "minutes": round((time.time() - start) / 60, 1),
        "cores": multiprocessing.cpu_count(),
        "torch": torch.__version__,
        "photographs": [source._asdict() for source in used(sources, tuple(options.leave_out))],
    }
    options.out.with_suffix(".onnx.json").write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
