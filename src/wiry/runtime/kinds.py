"""The kinds of operation in a graph: their attributes, checked, and the shapes that they make.

One entry of `KINDS` a kind. `graph` puts the checks to data that nobody vouches for; what a kind
computes is told in docs/format.md and done by the compiled core.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
Tensors = Mapping[str, Shape]
Reference = str | dict[str, list[str]] | None
"""Name of a tensor; `{"product": [a, b]}` for two that are multiplied entry by entry; None."""

_LARGEST = 3.4e38  # float32
_MAX_COUNT = 2**31 - 1


class Fault(Exception):
    """Something in a graph is not as it must be; `graph` says where."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of operation.

    Attributes:
        attributes: name -> check, which returns the value or raises `Fault`.
        shape: from the shapes of the inputs, the attributes and the tensors to that of the output.
    """

    attributes: Mapping[str, Callable[[Any, str], Any]]
    shape: Callable[[Sequence[Shape], Attributes, Tensors], Shape]
    num_inputs: int = 1


def as_count(value: Any, key: str, *, least: int = 0) -> int:
    """Return a whole number of at least `least`, and no more than 32 bits hold."""
    if type(value) is not int or not least <= value <= _MAX_COUNT:
        raise Fault(f"{key} must be whole numbers of at least {least}")
    return value


def _positive(value: Any, key: str) -> int:
    return as_count(value, key, least=1)


def _pair(least: int) -> Callable[[Any, str], list[int]]:
    def check(value: Any, key: str) -> list[int]:
        if not isinstance(value, list) or len(value) != 2:
            raise Fault(f"{key} must be a list of two whole numbers")
        return [as_count(item, key, least=least) for item in value]

    return check


def _reference(value: Any, key: str) -> Reference:
    if isinstance(value, dict) and value.keys() == {"product"}:
        factors = value["product"]
        if isinstance(factors, list) and len(factors) == 2 and _are_names(factors):
            return value
    elif _are_names([value]):
        return value
    raise Fault(f"{key} must be a tensor's name or a product of two")


def _are_names(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _optional(value: Any, key: str) -> Reference:
    return None if value is None else _reference(value, key)


def _number(value: Any, key: str) -> float:
    if type(value) not in (int, float) or not -_LARGEST <= value <= _LARGEST:
        raise Fault(f"{key} must be finite numbers of float32's range")
    return float(value)


def _numbers(value: Any, key: str) -> list[float]:
    if not isinstance(value, list):
        raise Fault(f"{key} must be a list of numbers")
    return [_number(item, key) for item in value]


def _non_negative(value: Any, key: str) -> float:
    if _number(value, key) < 0:
        raise Fault(f"{key} must not be negative")
    return float(value)


def _flag(value: Any, key: str) -> bool:
    if type(value) is not bool:
        raise Fault(f"{key} must be true or false")
    return value


def _tensor_shape(reference: Reference, tensors: Tensors) -> Shape:
    """Return the shape of what a reference names."""
    assert reference is not None
    names = [reference] if isinstance(reference, str) else reference["product"]
    shapes = []
    for name in names:
        if name not in tensors:
            raise Fault(f"{ascii(name)[:80]} is no float32 tensor of the network")
        shapes.append(tuple(tensors[name]))
    if shapes[0] != shapes[-1]:
        raise Fault(f"it multiplies tensors of shapes {shapes[0]} and {shapes[-1]}")
    return shapes[0]


def _check_vectors(
    attributes: Attributes, keys: Sequence[str], size: int, tensors: Tensors
) -> None:
    for key in keys:
        reference = attributes[key]
        if reference is not None and _tensor_shape(reference, tensors) != (size,):
            raise Fault(f"{key} must have {size} entries")


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise Fault(f"it needs channels, height and width, but reads a value of shape {shape}")
    return shape[0], shape[1], shape[2]


def _window(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _conv2d(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    channels, *sizes = _image(inputs[0])
    weight, groups = _tensor_shape(attributes["weight"], tensors), attributes["groups"]
    if len(weight) != 4 or min(weight) < 1:
        raise Fault(f"its weight has the shape {weight}, not (out, in / groups, height, width)")
    num_out, num_in, *kernel = weight
    if channels % groups or num_out % groups or num_in != channels // groups:
        raise Fault(f"a weight of {weight} in {groups} groups does not fit {channels} channels")
    if any(p >= k for p, k in zip(attributes["padding"], kernel, strict=True)):
        raise Fault("the padding must be smaller than the kernel")
    _check_vectors(attributes, ["bias"], num_out, tensors)
    places = zip(sizes, kernel, attributes["stride"], attributes["padding"], strict=True)
    return (num_out, *(_window(*place) for place in places))


def _linear(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    weight = _tensor_shape(attributes["weight"], tensors)
    if len(weight) != 2 or inputs[0] != weight[1:]:
        raise Fault(f"a weight of shape {weight} does not fit a value of shape {inputs[0]}")
    _check_vectors(attributes, ["bias"], weight[0], tensors)
    return weight[:1]


def _batch_norm(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    _check_vectors(attributes, ["weight", "bias", "mean", "variance"], inputs[0][0], tensors)
    return inputs[0]


def _affine(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    if not len(attributes["scale"]) == len(attributes["shift"]) == inputs[0][0]:
        raise Fault(f"scale and shift must have {inputs[0][0]} entries")
    return inputs[0]


def _add(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    if inputs[0] != inputs[1]:
        raise Fault(f"it adds values of shapes {inputs[0]} and {inputs[1]}")
    return inputs[0]


def _pool2d(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    channels, *sizes = _image(inputs[0])
    kernel, padding = attributes["kernel"], attributes["padding"]
    if any(2 * p > k or p > n for p, k, n in zip(padding, kernel, sizes, strict=True)):
        raise Fault("the padding must be at most half the kernel, and not above the image")
    places = zip(sizes, kernel, attributes["stride"], padding, strict=True)
    return (channels, *(_window(*place) for place in places))


def _same(inputs: Sequence[Shape], attributes: Attributes, tensors: Tensors) -> Shape:
    return inputs[0]


_POOL = {"kernel": _pair(1), "stride": _pair(1), "padding": _pair(0)}

KINDS: dict[str, Kind] = {
    "conv2d": Kind(
        {
            "weight": _reference,
            "bias": _optional,
            "stride": _pair(1),
            "padding": _pair(0),
            "groups": _positive,
        },
        _conv2d,
    ),
    "linear": Kind({"weight": _reference, "bias": _optional}, _linear),
    "batch_norm": Kind(
        {
            "weight": _optional,
            "bias": _optional,
            "mean": _reference,
            "variance": _reference,
            "epsilon": _non_negative,
        },
        _batch_norm,
    ),
    "affine": Kind({"scale": _numbers, "shift": _numbers}, _affine),
    "relu": Kind({}, _same),
    "add": Kind({}, _add, num_inputs=2),
    "max_pool2d": Kind(_POOL, _pool2d),
    "avg_pool2d": Kind({**_POOL, "count_include_pad": _flag}, _pool2d),
    "global_avg_pool": Kind({}, lambda inputs, *_: _image(inputs[0])[:1]),
    "flatten": Kind({}, lambda inputs, *_: (math.prod(inputs[0]),)),
}
