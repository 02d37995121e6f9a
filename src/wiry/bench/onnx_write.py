"""A network as an `.onnx` file for the engines that read one: float32, dense, batch norm folded.

The only file of this room that imports `onnx`. Nothing is run here.
"""

from pathlib import Path
from typing import Any

import numpy as np

from wiry.bench.base import package
from wiry.bench.subject import Subject
from wiry.runtime.graph import INPUT

OPSET, IR_VERSION = 13, 7  # old enough for every engine that is compared
BATCH = "n"
"""Name of the first dimension of the input, which may be of any size."""


def write_onnx(subject: Subject, path: Path) -> Path:
    """Write a network and return the path.

    Raises:
        UserError: if onnx is not installed, or naming a layer that cannot be written.
    """
    writer = _Writer(package("onnx", "onnx"), subject.shapes())
    for op in subject.operations():
        getattr(writer, op["kind"])(op)
    writer.save(path, subject.graph.ops[-1].output)
    return path


class _Writer:
    """Nodes and weights so far; a method for each kind of simplified operation."""

    def __init__(self, onnx: Any, shapes: dict[str, tuple[int, ...]]) -> None:
        self.onnx, self.shapes = onnx, shapes
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def save(self, path: Path, output: str) -> None:
        helper, number = self.onnx.helper, self.onnx.TensorProto.FLOAT
        ends = [
            helper.make_tensor_value_info(name, number, [BATCH, *self.shapes[name]])
            for name in (INPUT, output)
        ]
        graph = helper.make_graph(self.nodes, "network", [ends[0]], [ends[1]], self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        self.onnx.checker.check_model(model, full_check=True)
        self.onnx.save(model, str(path))

    def conv2d(self, op: dict[str, Any]) -> None:
        self._weighted("Conv", op, group=op["groups"], **_window(op, op["weight"].shape[2:]))

    def linear(self, op: dict[str, Any]) -> None:
        self._weighted("Gemm", op, transB=1)

    def affine(self, op: dict[str, Any]) -> None:
        places = len(self.shapes[op["inputs"][0]]) - 1
        parts = [op[key].reshape(1, -1, *(1,) * places) for key in ("scale", "shift")]
        names = [self._weight(f"{op['output']}/{i}", part) for i, part in enumerate(parts)]
        self._node("Mul", [op["inputs"][0], names[0]], op["output"] + "/scaled")
        self._node("Add", [op["output"] + "/scaled", names[1]], op["output"])

    def relu(self, op: dict[str, Any]) -> None:
        self._node("Relu", op["inputs"], op["output"])

    def add(self, op: dict[str, Any]) -> None:
        sum_name = op["output"] + "/sum" if op["relu"] else op["output"]
        self._node("Add", op["inputs"], sum_name)
        self._rectified(op, sum_name)

    def max_pool2d(self, op: dict[str, Any]) -> None:
        self._node("MaxPool", op["inputs"], op["output"], **_window(op, op["kernel"]))

    def avg_pool2d(self, op: dict[str, Any]) -> None:
        window = _window(op, op["kernel"])
        include = int(op["count_include_pad"])
        self._node("AveragePool", op["inputs"], op["output"], count_include_pad=include, **window)

    def global_avg_pool(self, op: dict[str, Any]) -> None:
        self._node("GlobalAveragePool", op["inputs"], op["output"] + "/kept")
        self._node("Flatten", [op["output"] + "/kept"], op["output"], axis=1)

    def flatten(self, op: dict[str, Any]) -> None:
        self._node("Flatten", op["inputs"], op["output"], axis=1)

    def _weighted(self, kind: str, op: dict[str, Any], **attributes: Any) -> None:
        out = op["output"]
        names = [self._weight(f"{out}/{key}", op[key]) for key in ("weight", "bias")]
        source, *residual = op["inputs"]
        after = out + "/sum" if op["relu"] else out
        made = out + "/product" if residual else after
        self._node(kind, [source, *names], made, **attributes)
        if residual:
            self._node("Add", [made, residual[0]], after)
        self._rectified(op, after)

    def _rectified(self, op: dict[str, Any], value: str) -> None:
        if op["relu"]:
            self._node("Relu", [value], op["output"])

    def _weight(self, name: str, values: np.ndarray[Any, Any]) -> str:
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))


def _window(op: dict[str, Any], kernel: Any) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(kernel),
        "strides": list(op["stride"]),
        "pads": [*op["padding"], *op["padding"]],
    }
