"""Tensor functions and methods as steps: sums, constant factors, reshaping, means, rectifiers.

The tracer asks here for all that is no module. A function of constants alone is computed at once; a
function of a step gives its layer and the steps it reads; the rest raises `ValueError`.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wiry.bounds.layers import FixedMap, Layer, Scale, Sum
from wiry.bounds.nonlinear import Rectifier

IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv")


@dataclasses.dataclass(frozen=True)
class Place:
    """Stands for the value of a step, by the step's number."""

    number: int


class NumImages:
    """Stands for the number of images, as in `x.view(x.shape[0], -1)`."""


class Shape:
    """Stands for a step's shape, of which only the number of images is known."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A layer and the steps it reads."""

    layer: Layer
    inputs: tuple[Place, ...]


def function_layer(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a called function makes of steps (`Made`) or of constants (a constant).

    Raises:
        ValueError: if its bounds are not known.
    """
    if target is getattr and isinstance(args[0], Place) and args[1] == "shape":
        return Shape()
    if target is operator.getitem and isinstance(args[0], Shape) and args[1] == 0:
        return NumImages()
    if not _has_place((args, kwargs)):
        if _has_place((args, kwargs), Shape) or _has_place((args, kwargs), NumImages):
            raise ValueError("a step may use no other size than the number of images")
        return target(*args, **kwargs)
    if target in _ARITHMETIC:
        return _ARITHMETIC[target](*args, **kwargs)
    return method_layer(_FUNCTIONS.get(target, ""), args, kwargs)


def method_layer(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a method makes of a step (`Made`) or of a constant (a constant).

    Raises:
        ValueError: if its bounds are not known.
    """
    step, *rest = args
    if not _has_place((args, kwargs)):
        return getattr(step, name)(*rest, **kwargs)
    name = name.removesuffix("_")  # the caller sees to what is done in place
    if name == "size" and rest in ([], [0]):
        return NumImages() if rest else Shape()
    if name in ("add", "sub", "mul", "div"):
        return _ARITHMETIC[getattr(torch, name)](*args, **kwargs)
    if name == "relu":
        return Made(Rectifier(), (step,))
    if name not in _FIXED or not isinstance(step, Place) or _has_place((rest, kwargs)):
        raise ValueError("its bounds are not known")
    return Made(FixedMap(_FIXED[name](*rest, **kwargs)), (step,))


def _has_place(arguments: Any, kind: type = Place) -> bool:
    if isinstance(arguments, dict):
        return _has_place(tuple(arguments.values()), kind)
    if isinstance(arguments, list | tuple):
        return any(_has_place(item, kind) for item in arguments)
    return isinstance(arguments, kind)


def _image_constant(value: Any) -> Tensor | float:
    """Return a constant that broadcasts against one image: without a dimension for the batch."""
    if isinstance(value, Tensor):
        while value.dim() and len(value) == 1:
            value = value[0]
        return value
    if isinstance(value, int | float):
        return value
    raise ValueError(f"its bounds are not known with {type(value).__name__}")


def _add(first: Any, second: Any) -> Made:
    if isinstance(first, Place) and isinstance(second, Place):
        return Made(Sum(), (first, second))
    step, constant = (first, second) if isinstance(first, Place) else (second, first)
    return Made(Scale(1.0, _image_constant(constant)), (step,))


def _subtract(first: Any, second: Any) -> Made:
    if isinstance(first, Place) and isinstance(second, Place):
        return Made(Sum(-1), (first, second))
    if isinstance(first, Place):
        return Made(Scale(1.0, -_image_constant(second)), (first,))
    return Made(Scale(-1.0, _image_constant(first)), (second,))


def _multiply(first: Any, second: Any) -> Made:
    step, factor = (first, second) if isinstance(first, Place) else (second, first)
    if isinstance(factor, Place):
        raise ValueError("a product of two steps has no known bounds")
    return Made(Scale(_image_constant(factor)), (step,))


def _divide(first: Any, second: Any) -> Made:
    if isinstance(second, Place):
        raise ValueError("a division by a step has no known bounds")
    return Made(Scale(1.0 / _image_constant(second)), (first,))


def _negate(step: Place) -> Made:
    return Made(Scale(-1.0), (step,))


def _flatten(start_dim: int = 0, end_dim: int = -1) -> Callable[[Tensor], Tensor]:
    return lambda x: x.flatten(start_dim, end_dim)


def _mean(dim: Any = None, keepdim: bool = False) -> Callable[[Tensor], Tensor]:
    def mean(x: Tensor) -> Tensor:
        dims = range(x.dim()) if dim is None else (dim,) if isinstance(dim, int) else dim
        if any(d % x.dim() == 0 for d in dims):
            raise ValueError("it takes the mean over the images")
        return x.mean(tuple(dims), keepdim)

    return mean


def _reshape(*shape: Any) -> Callable[[Tensor], Tensor]:
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape

    def reshape(x: Tensor) -> Tensor:
        kept = tuple(len(x) if isinstance(size, NumImages) else size for size in sizes)
        if kept[0] == -1 and math.prod(kept[1:]) != x[0].numel():
            raise ValueError("it mixes images")
        return x.reshape(kept)

    return reshape


_ARITHMETIC: dict[Any, Callable[..., Made]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), _add),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub), _subtract),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), _multiply),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div), _divide),
    **dict.fromkeys((operator.neg, torch.neg), _negate),
}
_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    F.relu: "relu",
    torch.flatten: "flatten",
    torch.mean: "mean",
    torch.reshape: "reshape",
    F.avg_pool2d: "avg_pool2d",
    F.adaptive_avg_pool2d: "adaptive_avg_pool2d",
}


def _fixed(function: Callable[..., Tensor]) -> Callable[..., Callable[[Tensor], Tensor]]:
    return lambda *args, **kwargs: lambda x: function(x, *args, **kwargs)


_FIXED: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "flatten": _flatten,
    "mean": _mean,
    "view": _reshape,
    "reshape": _reshape,
    "contiguous": lambda: lambda x: x,
    "avg_pool2d": _fixed(F.avg_pool2d),
    "adaptive_avg_pool2d": _fixed(F.adaptive_avg_pool2d),
}
