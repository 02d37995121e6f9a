"""A graph's answers reckoned with torch: the yardstick for what `lower` makes of a network.

Slow and plain, one operation after the other; what is fast is in `wiry.runtime`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wiry.runtime.graph import INPUT, Graph, Op
from wiry.runtime.kinds import Reference

Tensors = Mapping[str, Tensor]


def replay(
    graph: Graph, tensors: Tensors, x: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n classes"]:
    """Return the logits of images.

    Args:
        tensors: what the graph refers to, by name.
    """
    values = {INPUT: x}
    for op in graph.ops:
        inputs = [values[name] for name in op.inputs]
        values[op.output] = _KINDS[op.kind](op, tensors, *inputs)
    return values[graph.ops[-1].output]


def referred(reference: Reference, tensors: Tensors) -> Tensor | None:
    """Return the tensor that a reference names."""
    if reference is None:
        return None
    if isinstance(reference, str):
        return tensors[reference]
    first, second = reference["product"]
    return tensors[first] * tensors[second]


def _conv2d(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    weight, bias = (referred(op.attributes[key], tensors) for key in ("weight", "bias"))
    assert weight is not None
    own = op.attributes
    return F.conv2d(x, weight, bias, own["stride"], own["padding"], groups=own["groups"])


def _linear(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    weight, bias = (referred(op.attributes[key], tensors) for key in ("weight", "bias"))
    assert weight is not None
    return F.linear(x, weight, bias)


def _batch_norm(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    keys = ("mean", "variance", "weight", "bias")
    mean, variance, weight, bias = (referred(op.attributes[key], tensors) for key in keys)
    return F.batch_norm(x, mean, variance, weight, bias, eps=op.attributes["epsilon"])


def _affine(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    shape = (-1,) + (1,) * (x.dim() - 2)
    scale, shift = (torch.tensor(op.attributes[key]).view(shape) for key in ("scale", "shift"))
    return x * scale + shift


def _max_pool2d(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    own = op.attributes
    return F.max_pool2d(x, own["kernel"], own["stride"], own["padding"])


def _avg_pool2d(op: Op, tensors: Tensors, x: Tensor) -> Tensor:
    own, counted = op.attributes, op.attributes["count_include_pad"]
    return F.avg_pool2d(x, own["kernel"], own["stride"], own["padding"], count_include_pad=counted)


_KINDS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "affine": _affine,
    "relu": lambda op, tensors, x: x.relu(),
    "add": lambda op, tensors, x, y: x + y,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": lambda op, tensors, x: x.mean((2, 3)),
    "flatten": lambda op, tensors, x: x.flatten(1),
}
