"""Small networks as the compiled plan takes them, and what torch makes of the same operations."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Op = dict[str, Any]


def sparse(generator: np.random.Generator, shape: tuple[int, ...], density: float) -> NDArray:
    """Return float32 weights of which about this share is not zero, scaled to sums near 1."""
    kept = generator.random(shape) < density
    fan_in = max(1.0, density * float(np.prod(shape[1:])))
    return (generator.standard_normal(shape) * kept / np.sqrt(fan_in)).astype(np.float32)


def numbers(generator: np.random.Generator, count: int) -> NDArray:
    """Return float32 numbers, one for each channel."""
    return generator.standard_normal(count).astype(np.float32)


def conv(inputs: list[str], output: str, weight: NDArray, bias: NDArray, **attributes: Any) -> Op:
    """Return a convolution; stride 1, no padding, one group, no ReLU unless told."""
    defaults = {"stride": [1, 1], "padding": [0, 0], "groups": 1, "relu": False}
    return (
        {"kind": "conv2d", "weight": weight, "bias": bias}
        | _op(inputs, output)
        | (defaults | attributes)
    )


def linear(
    inputs: list[str], output: str, weight: NDArray, bias: NDArray, relu: bool = False
) -> Op:
    """Return a linear layer."""
    return {"kind": "linear", "weight": weight, "bias": bias, "relu": relu} | _op(inputs, output)


def plain(kind: str, inputs: list[str], output: str, **attributes: Any) -> Op:
    """Return an operation without weights."""
    return {"kind": kind} | _op(inputs, output) | attributes


def _op(inputs: list[str], output: str) -> Op:
    return {"name": f"layer {output}", "inputs": inputs, "output": output}


def by_torch(ops: list[Op], images: Tensor) -> Tensor:
    """Return what torch computes for the operations."""
    values = {"x": images}
    for op in ops:
        result = _one(op, [values[name] for name in op["inputs"]])
        values[op["output"]] = result.relu() if op.get("relu") else result
    return values[ops[-1]["output"]]


def _one(op: Op, inputs: list[Tensor]) -> Tensor:
    x, kind = inputs[0], op["kind"]
    if kind in ("conv2d", "linear"):
        weight, bias = torch.from_numpy(op["weight"]), torch.from_numpy(op["bias"])
        if kind == "linear":
            result = F.linear(x, weight, bias)
        else:
            result = F.conv2d(x, weight, bias, op["stride"], op["padding"], 1, op["groups"])
        return result + inputs[1] if len(inputs) == 2 else result
    if kind == "affine":
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * torch.from_numpy(op["scale"]).view(shape) + torch.from_numpy(op["shift"]).view(
            shape
        )
    if kind == "max_pool2d":
        return F.max_pool2d(x, op["kernel"], op["stride"], op["padding"])
    if kind == "avg_pool2d":
        counts = op["count_include_pad"]
        return F.avg_pool2d(x, op["kernel"], op["stride"], op["padding"], count_include_pad=counts)
    if kind == "relu":
        return x.relu()
    if kind == "add":
        return inputs[0] + inputs[1]
    return x.mean((2, 3)) if kind == "global_avg_pool" else x.flatten(1)


def relative_error(got: NDArray | Tensor, wanted: Tensor) -> float:
    """Return the largest difference, as a share of the largest number wanted, if that is above 1.

    Sums have terms near 1: where they cancel or a ReLU hides the large ones, 1 is what counts.
    """
    largest = max(float(wanted.abs().max()), 1.0)
    return float((torch.as_tensor(got) - wanted).abs().max()) / largest


def residual_network(generator: np.random.Generator, density: float) -> tuple[list[Op], list[int]]:
    """Return a network with every kind of operation: 3 x 12 x 12 images, 7 classes."""

    def weights(out: int, num_in: int, side: int) -> tuple[NDArray, NDArray]:
        return sparse(generator, (out, num_in, side, side), density), numbers(generator, out)

    two = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    ops = [
        plain("affine", ["x"], "n", scale=numbers(generator, 3), shift=numbers(generator, 3)),
        conv(["n"], "a", *weights(16, 3, 3), padding=[1, 1], relu=True),
        plain("max_pool2d", ["a"], "p", kernel=[3, 3], stride=[2, 2], padding=[1, 1]),
        conv(["p"], "b", *weights(16, 16, 3), padding=[1, 1], relu=True),
        conv(["b", "p"], "c", *weights(16, 16, 3), padding=[1, 1], relu=True),
        conv(["c"], "s", *weights(24, 16, 1), stride=[2, 2]),
        conv(["c"], "d", *weights(24, 16, 3), stride=[2, 2], padding=[1, 1], relu=True),
        plain("add", ["s", "d"], "e", relu=True),
        plain("avg_pool2d", ["e"], "q", count_include_pad=True, **two | {"padding": [1, 1]}),
        conv(["q"], "f", *weights(32, 24, 3), padding=[1, 1]),
        plain("relu", ["f"], "r"),
        plain("global_avg_pool", ["r"], "g"),
        linear(["g"], "h", sparse(generator, (20, 32), density), numbers(generator, 20), True),
        linear(["h"], "o", sparse(generator, (7, 20), density), numbers(generator, 7)),
    ]
    return ops, [3, 12, 12]
