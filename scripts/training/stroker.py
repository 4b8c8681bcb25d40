"""The network that finds strokes: a small U-Net, and its ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional
from training.net import doubled, relu
from training.onnx_file import Graph

from imgedit.ops.strokes import CHANNELS

WIDTHS = (24, 48, 80)
#: of the layers at the coarsest level
DILATIONS = (1, 2, 4, 2)


class Stroker(nn.Module):
    """Maps what `ops.strokes.given` makes of a box, (batch, CHANNELS, rows, columns), to logits (batch, 1, …).

    Rows and columns are multiples of 8. No layer looks at more than its kernel, so that long lines go in tiles.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.first = nn.Conv2d(4 * CHANNELS, fine, 3, padding=1)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.down1 = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(middle, middle, 3, padding=1)
        self.down2 = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(coarse, coarse, 3, padding=d, dilation=d) for d in DILATIONS)
        self.up2 = nn.Conv2d(coarse, middle, 1)
        self.join2 = nn.Conv2d(2 * middle, middle, 3, padding=1)
        self.up1 = nn.Conv2d(middle, fine, 1)
        self.join1 = nn.Conv2d(2 * fine, fine, 3, padding=1)
        self.after1 = nn.Conv2d(fine, fine, 3, padding=1)
        self.last = nn.Conv2d(fine, 4, 3, padding=1)

    def forward(self, given: Tensor) -> Tensor:
        a = relu(self.fine(relu(self.first(functional.pixel_unshuffle(given, 2)))))
        b = relu(self.middle(relu(self.down1(a))))
        c = relu(self.down2(b))
        for layer in self.coarse:
            c = c + relu(layer(c))
        b = relu(self.join2(torch.cat([b, doubled(self.up2(c))], 1)))
        a = relu(self.join1(torch.cat([a, doubled(self.up1(b))], 1)))
        a = a + relu(self.after1(a))
        out: Tensor = functional.pixel_shuffle(self.last(a), 2)
        return out


def save(net: Stroker, path: Path, about: dict[str, str]) -> None:
    """Write *net* to *path*: input ``given`` (1, CHANNELS, rows, columns) float32, output ``likely`` (1, 1, …), 0…1."""
    graph = Graph(net)
    x = graph.add("SpaceToDepth", ["given"], blocksize=2)
    # torch's pixel_unshuffle has the channel first, ONNX the place in the block
    order = np.arange(4 * CHANNELS).reshape(4, CHANNELS).T.reshape(-1)
    x = graph.add("Gather", [x, graph.constant(order.astype(np.int64), "order")], axis=1)
    a = graph.relu(graph.conv("fine", graph.relu(graph.conv("first", x))))
    b = graph.relu(graph.conv("middle", graph.relu(graph.conv("down1", a, stride=2))))
    c = graph.relu(graph.conv("down2", b, stride=2))
    for i, dilation in enumerate(DILATIONS):
        c = graph.add("Add", [c, graph.relu(graph.conv(f"coarse.{i}", c, dilation=dilation))])
    b = graph.relu(graph.conv("join2", graph.joined(b, graph.conv("up2", c, kernel=1))))
    a = graph.relu(graph.conv("join1", graph.joined(a, graph.conv("up1", b, kernel=1))))
    a = graph.add("Add", [a, graph.relu(graph.conv("after1", a))])
    out = graph.add("DepthToSpace", [graph.conv("last", a)], blocksize=2, mode="CRD")
    graph.add("Sigmoid", [out], name="likely")
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, [1, CHANNELS, "rows", "columns"])
    likely = helper.make_tensor_value_info("likely", TensorProto.FLOAT, [1, 1, "rows", "columns"])
    graph.write("strokes", [given], [likely], path, about)
