"""The refiner network: convolutions on the grid of the small picture, for three scales, and its ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional
from training.onnx_file import Graph

from imgedit.ops.residual import SCALES, channels

WIDTH = 48
#: at first, and in the end
BLOCKS, MORE = 4, 5


class Refiner(nn.Module):
    """Maps what `ops.residual.given` makes of a picture to what is added: (batch, 3 · scale², rows, columns).

    The blocks in the middle serve all scales. No layer looks further than its kernel.
    """

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.first = nn.ModuleDict({str(s): nn.Conv2d(channels(s), WIDTH, 3, padding=1) for s in SCALES})
        self.inner = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2 * blocks))
        self.last = nn.ModuleDict({str(s): nn.Conv2d(WIDTH, 3 * s * s, 3, padding=1) for s in SCALES})
        for last in self.last.values():
            # training starts at the deterministic result
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, given: Tensor, scale: int) -> Tensor:
        x = self.first[str(scale)](given)
        for before, after in zip(self.inner[::2], self.inner[1::2]):
            x = x + after(functional.relu(before(x)))
        out: Tensor = self.last[str(scale)](x)
        return out


def grown(net: Refiner) -> Refiner:
    """Return *net* with blocks added up to MORE, which at first add nothing."""
    out = Refiner(MORE)
    out.load_state_dict(net.state_dict(), strict=False)
    for after in out.inner[len(net.inner) + 1 :: 2]:
        nn.init.zeros_(after.weight)
        nn.init.zeros_(after.bias)
    return out


def between(one: Refiner, other: Refiner, share: float) -> Refiner:
    """Return *one* with *share* of the way to *other*, which was trained from it.

    Such a mean keeps what the first knew and most of what the second learned (Wortsman et al., "Robust fine-tuning of
    zero-shot models", 2022).
    """
    theirs = other.state_dict()
    one.load_state_dict({name: torch.lerp(own, theirs[name], share) for name, own in one.state_dict().items()})
    return one


def save(net: Refiner, path: Path, about: dict[str, str]) -> None:
    """Write *net* to *path*: for each scale an input ``given2`` (1, channels, rows, columns) and an output ``added2``.

    Inputs have a single pixel as default: what is not asked for costs nothing.
    """
    graph = Graph(net)
    given, added = [], []
    for s in SCALES:
        sides = [f"rows{s}", f"columns{s}"]
        given.append(helper.make_tensor_value_info(f"given{s}", TensorProto.FLOAT, [1, channels(s), *sides]))
        x = graph.conv(f"first.{s}", graph.constant(np.zeros((1, channels(s), 1, 1), np.float32), f"given{s}"))
        for i in range(len(net.inner) // 2):
            y = graph.conv(f"inner.{2 * i + 1}", graph.relu(graph.conv(f"inner.{2 * i}", x)))
            x = graph.add("Add", [x, y])
        graph.conv(f"last.{s}", x, result=f"added{s}")
        added.append(helper.make_tensor_value_info(f"added{s}", TensorProto.FLOAT, [1, 3 * s * s, *sides]))
    graph.write("refiner", given, added, path, about)
