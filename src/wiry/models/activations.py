"""Activations as components: settings that make one module for each place of a network.

Models take them as their field `activation`. Every module here has `is_activation = True`, by which
those that measure or punish activity find it; a plain `nn.ReLU` is found by its class. What is
measured on activations is told in other rooms.
"""

import dataclasses
from typing import ClassVar

import torch
import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.registry import registry

_TRACKED = 0.1  # share of the newest batch in a running threshold, as in batch normalisation
_MOST_TRACKED = 1_000_000  # pre-activations a batch that the running threshold looks at


@registry("activation").register("relu")
@dataclasses.dataclass(frozen=True)
class Relu:
    """Rectifier, max(x, 0): every unit decides for itself."""

    def __call__(self) -> nn.Module:
        """Return a new module."""
        return nn.ReLU()


@registry("activation").register("k-wta")
@dataclasses.dataclass(frozen=True)
class KWinnersTakeAll:
    """Keep the largest activations of each image and layer, zero the rest (k winners take all).

    Use: for a share of active units that is exact at every image. Its jumps make gradients useless
    to an attacker without making the network robust, so judge it with attacks that need none.
    Source: Xiao, Zhong and Zheng 2020, equation 2; a convolution's winners are those of all its
    maps together. Differs: the share is the same from the first step (theirs may shrink).
    """

    density: float = 0.1
    """Share of the layer's units that win, in (0, 1]; rounded to a count, at least one."""

    def __post_init__(self) -> None:
        _check_density(self.density)

    def __call__(self) -> nn.Module:
        """Return a new module."""
        return Winners(self.density)


@registry("activation").register("shifted-relu")
@dataclasses.dataclass(frozen=True)
class ShiftedRelu:
    """Rectifier with a threshold: max(x - t, 0), with t given or tracked for a share of units.

    Use: for sparse activity that stays continuous in the image. Source: none for the tracking; the
    threshold itself is the bias of Glorot, Bordes and Bengio 2011 without learning it. Differs from
    the forced threshold of Kurtz et al. 2020, which jumps from 0 to t.
    """

    density: float = 0.25
    """Share of a layer's units to be active, in (0, 1]; not used where `threshold` is given.

    The threshold is then a buffer, one a layer: a running quantile of the pre-activations in
    training mode, fixed in eval mode. The share holds over images, not for each.
    """
    threshold: float | None = None
    """Fixed threshold, in units of the pre-activations."""

    def __post_init__(self) -> None:
        _check_density(self.density)

    def __call__(self) -> nn.Module:
        """Return a new module."""
        if self.threshold is None:
            return TrackedThreshold(self.density)
        return FixedThreshold(self.threshold)


class Winners(nn.Module):
    """The module of `k-wta`.

    Args:
        density: share of the units of an image that are kept.
    """

    is_activation: ClassVar[bool] = True

    def __init__(self, density: float) -> None:
        super().__init__()
        self.density = density

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Zero all but the largest entries of each image."""
        return keep_winners(x, self.density)

    def extra_repr(self) -> str:
        """Return what `print` shows in the brackets."""
        return f"density={self.density:g}"


class FixedThreshold(nn.Module):
    """The module of `shifted-relu` with a given threshold.

    Args:
        threshold: what is subtracted.
    """

    is_activation: ClassVar[bool] = True

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Subtract the threshold and rectify."""
        return torch.relu(x - self.threshold)

    def extra_repr(self) -> str:
        """Return what `print` shows in the brackets."""
        return f"threshold={self.threshold:g}"


class TrackedThreshold(nn.Module):
    """The module of `shifted-relu` whose threshold follows a quantile in training mode.

    `track_running_stats` has the meaning it has in batch normalisation.

    Args:
        density: share of the units that are to be active.
    """

    is_activation: ClassVar[bool] = True
    threshold: Tensor

    def __init__(self, density: float) -> None:
        super().__init__()
        self.density, self.track_running_stats = density, True
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Move the threshold in training mode, then subtract it and rectify."""
        if self.training and self.track_running_stats:
            self._track_(x.detach())
        return torch.relu(x - self.threshold)

    def extra_repr(self) -> str:
        """Return what `print` shows in the brackets."""
        return f"density={self.density:g}"

    @torch.no_grad()
    def _track_(self, x: Tensor) -> None:
        values = x.flatten()
        if values.numel() == 0:
            return
        values = values[:: -(-values.numel() // _MOST_TRACKED)]
        num_silent = values.numel() - max(1, round(self.density * values.numel()))
        quantile = values.kthvalue(num_silent).values if num_silent else values.min() - 1e-6
        self.threshold.lerp_(quantile.to(self.threshold), _TRACKED)


@torch.fx.wrap
def keep_winners(x: Float[Tensor, "n ..."], density: float) -> Float[Tensor, "n ..."]:
    """Return `x` with all but the largest entries of each image at zero; ties go to one of them.

    Args:
        density: share that is kept, in (0, 1]; rounded to a count, at least one.
    """
    flat = x.flatten(1)
    count = max(1, round(density * flat.shape[1]))
    if count == flat.shape[1]:
        return x
    winners = flat.topk(count, dim=1, sorted=False).indices
    kept = torch.zeros_like(flat).scatter_(1, winners, 1.0)
    return (flat * kept).view_as(x)


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise ValueError(f"density is a share in (0, 1], got {density:g}")
