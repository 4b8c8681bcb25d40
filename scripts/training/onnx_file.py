"""Write the networks as ONNX files, weights in half precision, without an exporter's guesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from training.net import DILATIONS, FILLS, Filler

OPSET = 17
Value = onnx.ValueInfoProto


def save(net: Filler, path: Path, about: dict[str, str]) -> None:
    """Write *net* to *path*: input ``given`` (batch, 13, rows, columns) float32, output ``filled`` (batch, 6, …).

    Weights are stored as float16 and widened when the file is loaded; *about* becomes the file's metadata.
    """
    graph = Graph(net)
    x = graph.add("SpaceToDepth", ["given"], blocksize=2)
    a = graph.relu(graph.conv("fine", graph.relu(graph.conv("first", graph.reorder(x)))))
    b = graph.relu(graph.conv("middle", graph.relu(graph.conv("down1", a, stride=2))))
    c = graph.relu(graph.conv("down2", b, stride=2))
    for i, dilation in enumerate(DILATIONS):
        c = graph.add("Add", [c, graph.relu(graph.conv(f"coarse.{i}", c, dilation=dilation))])
    b = graph.relu(graph.conv("join2", graph.joined(b, graph.conv("up2", c, kernel=1))))
    b = graph.add("Add", [b, graph.relu(graph.conv("after2", b))])
    a = graph.relu(graph.conv("join1", graph.joined(a, graph.conv("up1", b, kernel=1))))
    a = graph.add("Add", [a, graph.relu(graph.conv("after1", a))])
    out = graph.add("DepthToSpace", [graph.conv("last", a)], blocksize=2, mode="CRD")
    pieces = graph.split(out, [3, 3, FILLS])
    weights = graph.split(graph.add("Softmax", [pieces[2]], axis=1), [1] * FILLS)
    pictures = graph.split("given", [3] * FILLS + [1])
    total = pieces[0]
    for i in range(FILLS):
        product = graph.add("Mul", [weights[i], pictures[i]])
        total = graph.add("Add", [total, product])
    graph.add("Concat", [total, graph.add("Add", [total, pieces[1]])], name="filled", axis=1)
    sides = ["batch", "rows", "columns"]
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, [sides[0], 3 * FILLS + 1, *sides[1:]])
    filled = helper.make_tensor_value_info("filled", TensorProto.FLOAT, [sides[0], 6, *sides[1:]])
    graph.write("filler", [given], [filled], path, about)


class Graph:
    """Collects nodes and weights; each method but the last returns the name of its result."""

    def __init__(self, net: nn.Module) -> None:
        self.state = {name: value.detach().float().numpy() for name, value in net.state_dict().items()}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.wide: dict[str, str] = {}

    def add(self, kind: str, inputs: list[str], name: str | None = None, **settings: object) -> str:
        result = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [result], **settings))
        return result

    def constant(self, values: np.ndarray, name: str) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def widened(self, name: str) -> str:
        if name not in self.wide:
            half = self.constant(self.state[name].astype(np.float16), name)
            self.wide[name] = self.add("Cast", [half], to=TensorProto.FLOAT)
        return self.wide[name]

    def conv(
        self, name: str, x: str, *, kernel: int = 3, stride: int = 1, dilation: int = 1, result: str | None = None
    ) -> str:
        pad = dilation * (kernel // 2)
        settings = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4}
        return self.add("Conv", [x, self.widened(f"{name}.weight"), self.widened(f"{name}.bias")], result, **settings)

    def relu(self, x: str) -> str:
        return self.add("Relu", [x])

    def reorder(self, x: str) -> str:
        """Bring SpaceToDepth's channels, block first, into the order of torch's pixel_unshuffle, channel first."""
        channels = 3 * FILLS + 1
        order = np.arange(4 * channels).reshape(4, channels).T.reshape(-1)
        return self.add("Gather", [x, self.constant(order.astype(np.int64), "order")], axis=1)

    def joined(self, x: str, coarse: str) -> str:
        if "double" not in {w.name for w in self.weights}:
            self.constant(np.array([1, 1, 2, 2], np.float32), "double")
        modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self.add("Concat", [x, self.add("Resize", [coarse, "", "double"], **modes)], axis=1)

    def split(self, x: str, sizes: list[int]) -> list[str]:
        names = [f"v{len(self.nodes)}.{i}" for i in range(len(sizes))]
        parts = self.constant(np.array(sizes, np.int64), f"sizes{len(self.nodes)}")
        self.nodes.append(helper.make_node("Split", [x, parts], names, axis=1))
        return names

    def write(self, name: str, given: list[Value], made: list[Value], path: Path, about: dict[str, str]) -> None:
        """Write the network from *given* to *made* to *path*; *about* becomes the file's metadata."""
        graph = helper.make_graph(self.nodes, name, given, made, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        helper.set_model_props(model, about)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
