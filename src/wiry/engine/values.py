"""What the operands of torch's operators are in a graph: values, constants, and what is refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

from wiry.runtime.kinds import Reference


class Unsupported(Exception):
    """The runtime has no kind of operation for this; `lower` says which layer it is."""


@dataclasses.dataclass(frozen=True)
class Value:
    """Something that depends on the images.

    Attributes:
        name: of the value in the graph.
        shape: of one image's part: channels, height and width, or features.
        is_flat: torch sees height and width as one dimension.
    """

    name: str
    shape: tuple[int, ...]
    is_flat: bool = False


@dataclasses.dataclass(frozen=True)
class Constant:
    """Something that does not depend on the images.

    Attributes:
        reference: how the graph refers to it; None if it cannot.
        sources: names of the tensors of the network that it was made of.
    """

    tensor: Tensor
    reference: Reference
    sources: frozenset[str]


Emit = Callable[..., Value]
"""`emit(kind, *values, **attributes)` adds an operation and returns what it makes."""


def plain(x: Any) -> Value:
    """Return a value that has all its dimensions."""
    if not isinstance(x, Value):
        raise Unsupported("an operand that it needs from the images is a constant")
    if x.is_flat:
        raise Unsupported("height and width in one dimension are known in a mean only")
    return x


def image(x: Any) -> Value:
    """Return a value with channels, height and width."""
    if len(plain(x).shape) != 3:
        raise Unsupported(f"it needs channels, height and width, but reads {x.shape}")
    return x


def parameter(constant: Any) -> Constant:
    """Return a constant that the graph can refer to."""
    if not isinstance(constant, Constant):
        raise Unsupported("its weight depends on the images")
    if constant.reference is None:
        made_of = ", ".join(sorted(constant.sources)) or "no tensor of the state"
        raise Unsupported(
            f"its weight is computed from {made_of}; make it a plain parameter (remove the "
            "parametrization, prune.remove)"
        )
    return constant


def optional(constant: Any) -> Reference:
    """Return how the graph refers to a constant that may be missing."""
    return None if constant is None else parameter(constant).reference
