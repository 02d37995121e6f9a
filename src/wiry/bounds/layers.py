"""What each kind of layer does to bounds: forward to an interval, backward to a linear bound.

The tracer picks one of these for each step of a network; which layer of which model it came from is
not known here. Interval: a box `lower <= value <= upper`. Backward: a lower bound `a . output` with
one row of coefficients for each specification is turned into a lower bound on the inputs.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import UserError

Coefficients = Float[Tensor, "n specs ..."]
Backward = tuple[list[Tensor], Tensor | float]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A box around the values of one step, entry by entry."""

    lower: Float[Tensor, "n ..."]
    upper: Float[Tensor, "n ..."]


class Layer(Protocol):
    """One step of a network, seen by its bounds."""

    def interval(self, *inputs: Interval) -> Interval:
        """Return the box of the output from the boxes of the inputs."""
        ...

    def backward(self, a: Coefficients, *inputs: Interval) -> Backward:
        """Return coefficients on each input, and what is added to the bound (n, specs).

        `a . output >= sum of coefficients . inputs + added` holds anywhere in the boxes.
        """
        ...


class Affine(abc.ABC):
    """Base of the layers `linear(x) + bias` with one input; nothing is lost going backward."""

    bias: Tensor | None = None  # broadcasts against one image's output

    @abc.abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """Return the output without the bias."""

    @abc.abstractmethod
    def absolute(self, x: Tensor) -> Tensor:
        """Return the output with the absolute values of the weights in place of the weights."""

    @abc.abstractmethod
    def adjoint(self, a: Tensor, shape: torch.Size) -> Tensor:
        """Return the transposed map of each image of `a`, one batch of inputs shaped `shape`."""

    def interval(self, *inputs: Interval) -> Interval:
        """See `Layer`. Source: Gowal et al. 2018, eq. 6."""
        (box,) = inputs
        center = self.linear((box.upper + box.lower) / 2)
        radius = self.absolute((box.upper - box.lower) / 2)
        if self.bias is not None:
            center = center + self.bias
        return Interval(center - radius, center + radius)

    def backward(self, a: Coefficients, *inputs: Interval) -> Backward:
        """See `Layer`."""
        shape = inputs[0].lower.shape[1:]
        flat = self.adjoint(a.flatten(0, 1), shape)
        added = 0.0 if self.bias is None else (a * self.bias).flatten(2).sum(2)
        return [flat.view(*a.shape[:2], *shape)], added


class Dense(Affine):
    """Linear layer."""

    def __init__(self, module: nn.Linear) -> None:
        self.weight, self.bias = module.weight, module.bias

    def linear(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return F.linear(x, self.weight)

    def absolute(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return F.linear(x, self.weight.abs())

    def adjoint(self, a: Tensor, shape: torch.Size) -> Tensor:
        """See `Affine`."""
        return a @ self.weight


class Convolution(Affine):
    """Two-dimensional convolution with padding by zeros.

    Raises:
        ValueError: for another padding.
    """

    def __init__(self, module: nn.Conv2d) -> None:
        if module.padding_mode != "zeros" or module.padding == "same":
            raise ValueError("only padding by a number of zeros is supported")
        self.padding = (0, 0) if isinstance(module.padding, str) else module.padding
        self.stride, self.dilation, self.groups = module.stride, module.dilation, module.groups
        self.weight = module.weight
        self.bias = None if module.bias is None else module.bias[:, None, None]

    def linear(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return self._convolve(x, self.weight)

    def absolute(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return self._convolve(x, self.weight.abs())

    def adjoint(self, a: Tensor, shape: torch.Size) -> Tensor:
        """See `Affine`."""
        missing = [
            size - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for size, out, stride, padding, dilation, kernel in zip(
                shape[1:],
                a.shape[2:],
                self.stride,
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                strict=True,
            )
        ]  # rows and columns that the stride never reached
        return F.conv_transpose2d(
            a,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=missing,
            groups=self.groups,
            dilation=self.dilation,
        )

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)


class Scale(Affine):
    """Multiplication by a constant and addition of one: normalisation, batch norm, thresholds.

    Args:
        scale: factor, a number or a tensor that broadcasts against one image.
        bias: what is added, likewise.
    """

    def __init__(self, scale: Tensor | float, bias: Tensor | float | None = None) -> None:
        self.scale = scale
        self.bias = None if bias is None else torch.as_tensor(bias)

    def linear(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        for value in (self.scale, self.bias):
            if isinstance(value, Tensor):
                _check_broadcasts(value.shape, x.shape[1:])
        return x * self.scale

    def absolute(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return x * abs(self.scale)

    def adjoint(self, a: Tensor, shape: torch.Size) -> Tensor:
        """See `Affine`."""
        return a * self.scale


def _check_broadcasts(constant: torch.Size, image: torch.Size) -> None:
    try:
        fits = torch.broadcast_shapes(constant, image) == image
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"a constant of shape {tuple(constant)} does not fit one image's {tuple(image)}"
        )


class FixedMap(Affine):
    """A fixed linear map without negative weights: flattening, means, average pooling, identity.

    Args:
        function: the map; the transposed one is taken from it by automatic differentiation.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def linear(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        out = self.function(x)
        if out.dim() < 2 or len(out) != len(x):
            raise ValueError(f"it mixes images: {tuple(x.shape)} becomes {tuple(out.shape)}")
        return out

    def absolute(self, x: Tensor) -> Tensor:
        """See `Affine`."""
        return self.linear(x)

    def interval(self, *inputs: Interval) -> Interval:
        """See `Layer`; without the rounding of a centre and a radius."""
        return Interval(self.linear(inputs[0].lower), self.linear(inputs[0].upper))

    def adjoint(self, a: Tensor, shape: torch.Size) -> Tensor:
        """See `Affine`."""
        with_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            start = a.new_zeros(len(a), *shape).requires_grad_()
            (result,) = torch.autograd.grad(self.function(start), start, a, create_graph=with_graph)
        return result


class Sum:
    """Sum of two branches, or their difference.

    Args:
        sign: 1 or -1, of the second branch.
    """

    def __init__(self, sign: int = 1) -> None:
        self.sign = sign

    def interval(self, *inputs: Interval) -> Interval:
        """See `Layer`."""
        first, second = inputs
        if first.lower.shape != second.lower.shape:
            raise UserError(
                "bounds: branches of unequal shapes are added, "
                f"{tuple(first.lower.shape)} and {tuple(second.lower.shape)}"
            )
        if self.sign > 0:
            return Interval(first.lower + second.lower, first.upper + second.upper)
        return Interval(first.lower - second.upper, first.upper - second.lower)

    def backward(self, a: Coefficients, *inputs: Interval) -> Backward:
        """See `Layer`."""
        return [a, a if self.sign > 0 else -a], 0.0
