"""Rectifier and max pooling under bounds: exact on boxes, relaxed to lines going backward."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wiry.bounds.layers import Backward, Coefficients, Interval


class Rectifier:
    """max(x, 0)."""

    def interval(self, *inputs: Interval) -> Interval:
        """See `wiry.bounds.layers.Layer`."""
        return Interval(inputs[0].lower.relu(), inputs[0].upper.relu())

    def backward(self, a: Coefficients, *inputs: Interval) -> Backward:
        """See `wiry.bounds.layers.Layer`.

        Source: Zhang et al. 2018 (CROWN), section 3.3: above, the chord from (lower, 0) to
        (upper, upper); below, the line through 0 of slope 1 if upper > -lower and else 0, whichever
        leaves the smaller area.
        """
        lower, upper = inputs[0].lower, inputs[0].upper
        crosses = (lower < 0) & (upper > 0)
        width = torch.where(crosses, upper - lower, 1.0)
        passes = (lower >= 0).to(lower)
        chord = torch.where(crosses, upper / width, passes)
        below = torch.where(crosses, (upper > -lower).to(lower), passes)
        height = torch.where(crosses, -lower * upper / width, 0.0)
        positive, negative = a.clamp(min=0), a.clamp(max=0)
        coefficients = positive * below[:, None] + negative * chord[:, None]
        return [coefficients], (negative * height[:, None]).flatten(2).sum(2)


class MaxPool:
    """Max pooling.

    Raises:
        ValueError: for `ceil_mode`.
    """

    def __init__(self, module: nn.MaxPool2d) -> None:
        if module.ceil_mode or module.return_indices:
            raise ValueError("ceil_mode and return_indices are not supported")
        self.size, self.stride = _pair(module.kernel_size), _pair(module.stride)
        self.padding, self.dilation = _pair(module.padding), _pair(module.dilation)

    def interval(self, *inputs: Interval) -> Interval:
        """See `wiry.bounds.layers.Layer`."""
        return Interval(self._pool(inputs[0].lower)[0], self._pool(inputs[0].upper)[0])

    def backward(self, a: Coefficients, *inputs: Interval) -> Backward:
        """See `wiry.bounds.layers.Layer`.

        Below, the pixel with the largest lower bound stands for the window. Above, it does too if
        no other pixel of the window can exceed it; else the constant largest upper bound does.
        Source: the choice of Zhang et al. 2018 (CROWN) for a window with a known winner, and the
        interval otherwise.
        """
        lower, upper = inputs[0].lower, inputs[0].upper
        best, place = self._pool(lower)
        known = best >= self._largest_other(upper, place)
        ceiling, _ = self._pool(upper)
        through = torch.where(known[:, None], a, a.clamp(min=0))
        constant = torch.where(known[:, None], 0.0, a.clamp(max=0) * ceiling[:, None])
        flat = a.new_zeros(*a.shape[:2], *lower.shape[1:]).flatten(3)
        index = place.flatten(2)[:, None].expand(-1, a.shape[1], -1, -1)
        flat = flat.scatter_add(3, index, through.flatten(3))
        return [flat.view(*a.shape[:2], *lower.shape[1:])], constant.flatten(2).sum(2)

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.max_pool2d_with_indices(x, self.size, self.stride, self.padding, self.dilation)

    @torch.no_grad()
    def _largest_other(self, upper: Tensor, place: Tensor) -> Tensor:
        """Return for each window the largest upper bound of the pixels other than `place`."""
        num, channels, height, width = upper.shape
        pixels = torch.arange(height * width, device=upper.device, dtype=torch.float64)
        values = self._windows(upper, -torch.inf).view(num, channels, -1, place[0, 0].numel())
        numbers = self._windows(pixels.view(1, 1, height, width), -1.0)[:, None]
        chosen = numbers == place.flatten(2)[:, :, None]
        return values.masked_fill(chosen, -torch.inf).amax(2).view_as(place)

    def _windows(self, x: Tensor, border: float) -> Tensor:
        rows, columns = self.padding
        x = F.pad(x, (columns, columns, rows, rows), value=border)
        return F.unfold(x, self.size, self.dilation, stride=self.stride)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
