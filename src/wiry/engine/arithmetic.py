"""Sums, products and differences with constants: all are `affine` operations, one number a channel.

Of two values only the sum is known.
"""

from typing import Any

from wiry.engine.values import Constant, Emit, Unsupported, Value, plain


def add(emit: Emit, x: Any, y: Any, *, alpha: float = 1) -> Value:
    """aten.add: of two values, or of a value and a constant."""
    if isinstance(x, Value) and isinstance(y, Value):
        if alpha != 1 or x.shape != y.shape:
            raise Unsupported("a sum of values of different shapes or with a factor")
        return emit("add", plain(x), plain(y))
    if isinstance(x, Value):
        return _affine(emit, x, 1.0, y, factor=alpha)
    return _affine(emit, y, alpha, x)


def subtract(emit: Emit, x: Any, y: Any, *, alpha: float = 1) -> Value:
    """aten.sub: a value minus a constant, or a constant minus a value."""
    if isinstance(x, Value) and isinstance(y, Value):
        raise Unsupported("the difference of two values")
    if isinstance(x, Value):
        return _affine(emit, x, 1.0, y, factor=-alpha)
    return _affine(emit, y, -alpha, x)


def subtract_from(emit: Emit, x: Any, y: Any, alpha: float = 1) -> Value:
    """aten.rsub: its second argument minus its first."""
    return subtract(emit, y, x, alpha=alpha)


def negate(emit: Emit, x: Any) -> Value:
    """aten.neg."""
    return _affine(emit, plain(x), -1.0, 0.0)


def multiply(emit: Emit, x: Any, y: Any) -> Value:
    """aten.mul by a constant."""
    if isinstance(x, Value) and isinstance(y, Value):
        raise Unsupported("the product of two values")
    return _affine(emit, x, y, 0.0) if isinstance(x, Value) else _affine(emit, y, x, 0.0)


def divide(emit: Emit, x: Any, y: Any) -> Value:
    """aten.div by a constant."""
    if not isinstance(x, Value) or isinstance(y, Value):
        raise Unsupported("division by a value")
    if isinstance(y, Constant):
        reciprocal: Any = Constant(1 / y.tensor.double(), None, y.sources)
    else:
        reciprocal = 1 / y
    return _affine(emit, x, reciprocal, 0.0)


def _affine(
    emit: Emit, x: Value, scale: float | Constant, shift: float | Constant, *, factor: float = 1
) -> Value:
    """Add `x * scale + shift * factor`."""
    baked = frozenset[str]().union(*(c.sources for c in (scale, shift) if isinstance(c, Constant)))
    return emit(
        "affine",
        plain(x),
        scale=_per_channel(scale, x),
        shift=[number * factor for number in _per_channel(shift, x)],
        baked=baked,
    )


def _per_channel(constant: float | Constant, x: Value) -> list[float]:
    """Return a constant as a number for each channel or feature of a value."""
    channels = x.shape[0]
    if not isinstance(constant, Constant):
        return [float(constant)] * channels
    tensor = constant.tensor
    shape = (1,) * (1 + len(x.shape) - tensor.dim()) + tuple(tensor.shape)
    wanted = (1, channels, *(1 for _ in x.shape[1:]))
    if shape not in (wanted, (1,) * len(wanted)):
        raise Unsupported(
            f"a constant of shape {tuple(tensor.shape)}; it may differ between channels only"
        )
    numbers: list[float] = tensor.detach().double().reshape(-1).expand(channels).tolist()
    return numbers
