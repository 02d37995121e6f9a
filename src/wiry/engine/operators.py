"""What each operator of torch becomes in a graph of the runtime: one function an operator.

`lower` calls them in the order of an exported program. An operator that is not in `OPERATORS`, or
used in a way that no kind of the graph says, is refused; nothing is approximated.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from wiry.engine.arithmetic import add, divide, multiply, negate, subtract, subtract_from
from wiry.engine.values import Emit, Unsupported, Value, image, optional, parameter, plain


def conv2d(
    emit: Emit,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] | str = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Value:
    """aten.conv2d, both overloads."""
    if any(step != 1 for step in dilation):
        raise Unsupported(f"dilation {list(dilation)} is not supported, only 1")
    kernel = parameter(weight).tensor.shape[2:]
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        if any(size % 2 == 0 for size in kernel):
            raise Unsupported("padding 'same' needs a kernel of odd height and width")
        padding = [size // 2 for size in kernel]
    return emit(
        "conv2d",
        image(x),
        weight=parameter(weight).reference,
        bias=optional(bias),
        stride=_pair(stride),
        padding=_pair(padding),
        groups=groups,
    )


def linear(emit: Emit, x: Any, weight: Any, bias: Any = None) -> Value:
    """aten.linear."""
    if len(plain(x).shape) != 1:
        raise Unsupported("a linear layer on anything but one vector an image")
    return emit("linear", x, weight=parameter(weight).reference, bias=optional(bias))


def batch_norm(
    emit: Emit,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    momentum: float,
    epsilon: float,
) -> tuple[Value]:
    """aten._native_batch_norm_legit_no_training, of which the first of three outputs is used."""
    norm = emit(
        "batch_norm",
        plain(x),
        weight=optional(weight),
        bias=optional(bias),
        mean=parameter(mean).reference,
        variance=parameter(variance).reference,
        epsilon=epsilon,
    )
    return (norm,)


def batch_statistics(emit: Emit, *args: Any, **kwargs: Any) -> Value:
    """Batch normalisation without running statistics."""
    raise Unsupported("it normalises by the statistics of the batch, also in eval mode")


def relu(emit: Emit, x: Any) -> Value:
    """aten.relu."""
    return emit("relu", plain(x))


def clamp(emit: Emit, x: Any, least: Any = None, most: Any = None) -> Value:
    """aten.clamp and clamp_min: a rectifier if it cuts at zero."""
    if least != 0 or most is not None:
        raise Unsupported(f"clamping to [{least}, {most}], only to values above 0")
    return relu(emit, x)


def max_pool2d(
    emit: Emit,
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Value:
    """aten.max_pool2d; a ceil mode that adds no window is none."""
    if any(step != 1 for step in dilation):
        raise Unsupported(f"dilation {list(dilation)} is not supported, only 1")
    return emit("max_pool2d", image(x), **_pool(kernel, stride, padding))


def avg_pool2d(
    emit: Emit,
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """aten.avg_pool2d; a ceil mode that adds no window is none."""
    if divisor_override is not None:
        raise Unsupported("a divisor of its own")
    counted = {"count_include_pad": count_include_pad}
    return emit("avg_pool2d", image(x), **_pool(kernel, stride, padding), **counted)


def adaptive_avg_pool2d(emit: Emit, x: Any, size: Sequence[int]) -> Value:
    """aten.adaptive_avg_pool2d to a size that divides the image's."""
    window = _even_windows(image(x), size)
    return avg_pool2d(emit, x, window) if max(window) > 1 else x


def adaptive_max_pool2d(emit: Emit, x: Any, size: Sequence[int]) -> tuple[Value]:
    """aten.adaptive_max_pool2d to a size that divides the image's."""
    return (max_pool2d(emit, x, _even_windows(image(x), size)),)


def mean(
    emit: Emit, x: Any, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """aten.mean over all places of the image."""
    num_dims = 3 if x.is_flat else 1 + len(x.shape)
    over = {dim % num_dims for dim in dims or ()}
    if len(x.shape) != 3 or over != set(range(2, num_dims)) or dtype not in (None, torch.float32):
        raise Unsupported(f"a mean over the dimensions {dims}, only over height and width")
    if not keepdim:
        return emit("global_avg_pool", dataclasses.replace(x, is_flat=False))
    return avg_pool2d(emit, image(x), x.shape[1:])


def maximum(emit: Emit, x: Any, dims: Sequence[int] = (), keepdim: bool = False) -> Value:
    """aten.amax over all places of the image."""
    _, height, width = image(x).shape
    if {dim % 4 for dim in dims} != {2, 3}:
        raise Unsupported(f"a maximum over the dimensions {list(dims)}, only over height and width")
    pooled = max_pool2d(emit, x, (height, width))
    return pooled if keepdim else emit("flatten", pooled)


def same(emit: Emit, x: Any, *args: Any, **kwargs: Any) -> Value:
    """Operators that copy a value, or change what is no matter here."""
    return x


def reshape(emit: Emit, x: Any, shape: tuple[int, ...]) -> Value:
    """Every operator that gives a value another shape, the one it then has."""
    if shape == x.shape:
        return dataclasses.replace(x, is_flat=False)
    if len(x.shape) == 3 and shape == (x.shape[0], x.shape[1] * x.shape[2]):
        return dataclasses.replace(x, is_flat=True)
    if shape == (math.prod(x.shape),):
        return emit("flatten", dataclasses.replace(x, is_flat=False))
    raise Unsupported(f"a change of shape from {x.shape} to {shape}; only flattening is known")


def _pool(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> dict[str, list[int]]:
    return {
        "kernel": _pair(kernel),
        "stride": _pair(stride or kernel),
        "padding": _pair(padding),
    }


def _pair(numbers: Any) -> list[int]:
    pair = list(numbers) if isinstance(numbers, Sequence) else [numbers]
    return pair * 2 if len(pair) == 1 else pair


def _even_windows(x: Value, size: Sequence[int]) -> tuple[int, int]:
    _, height, width = x.shape
    rows, columns = _pair(size)
    if height % rows or width % columns:
        raise Unsupported(f"pooling {height}x{width} to {rows}x{columns}, which does not divide it")
    return height // rows, width // columns


OPERATORS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "linear": linear,
    "_native_batch_norm_legit_no_training": batch_norm,
    "_native_batch_norm_legit": batch_statistics,
    "relu": relu,
    "clamp": clamp,
    "clamp_min": clamp,
    "add": add,
    "sub": subtract,
    "rsub": subtract_from,
    "neg": negate,
    "mul": multiply,
    "div": divide,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "mean": mean,
    "amax": maximum,
    "clone": same,
    "alias": same,
    "detach": same,
    "contiguous": same,
    "lift_fresh_copy": same,
}
"""Operators by name, without overload; the arguments are torch's."""

RESHAPES = {"view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze"}
"""Operators whose arguments do not matter: what counts is the shape that comes out."""
