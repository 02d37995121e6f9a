"""Noise of sensors: Gaussian, photon counting, and dead or saturated values.

Source of all: Hendrycks and Dietterich 2019. Parameters are those of CIFAR-10-C by severity.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws

_SIGMA = (0.04, 0.06, 0.08, 0.09, 0.10)  # of pixels in [0, 1]
_PHOTONS = (500, 250, 100, 75, 50)  # counted for a white value
_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)  # of the values


def gaussian_noise(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Add normal noise to each value: weak light."""
    return x + _SIGMA[severity - 1] * draws.normal(*x.shape[1:])


def shot_noise(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Count photons, whose number is Poisson distributed around the value."""
    photons = _PHOTONS[severity - 1]
    keys = draws.integers(1).flatten().tolist()
    counts = [
        torch.poisson(photons * image, generator=torch.Generator().manual_seed(key))
        for image, key in zip(x, keys, strict=True)
    ]
    return torch.stack(counts) / photons if counts else x


def impulse_noise(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Set a share of the values to 0 or 1, each half of the time (salt and pepper)."""
    share, chance = _SHARE[severity - 1], draws.uniform(*x.shape[1:])
    return x.masked_fill(chance < share, 1.0).masked_fill(chance < share / 2, 0.0)
