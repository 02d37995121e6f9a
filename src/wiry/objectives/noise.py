"""Training on noisy images, the base of randomized smoothing. No attack; noise is not clipped."""

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy, check_share, cross_entropy


@registry("objective").register("noise")
@dataclasses.dataclass(frozen=True)
class Noise:
    """Cross-entropy on images with Gaussian noise, for a network that is to be smoothed.

    Source: Cohen et al. 2019, section 3.3. Noisy pixels may leave [0, 1], as they do when the
    smoothed network is certified. The accuracy reported is that on the noisy images.

    Published: sigma 0.12, 0.25, 0.5 and 1.0; Sehwag et al. 2020 (HYDRA) use 0.25.
    """

    sigma: float = 0.25
    """Standard deviation of the noise, pixels in [0, 1]."""
    label_smoothing: float = 0.0
    """Share of the label spread over all classes, in [0, 1)."""

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        logits = forward(noisy(batch.x, self.sigma, generator))
        total = cross_entropy(self.label_smoothing)(logits, batch.y)
        return Loss(total, {"accuracy": accuracy(logits, batch.y)})


def noisy(
    x: Float[Tensor, "n c h w"], sigma: float, generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Return the images plus Gaussian noise of standard deviation `sigma`, not clipped."""
    noise = torch.randn(x.shape, generator=generator, device=generator.device)
    return noise.to(x).mul_(sigma).add_(x)


def check_sigma(sigma: float) -> None:
    """Check the standard deviation of a noise.

    Raises:
        ValueError: if it is not positive, or so large that pixels of 0 to 255 must be meant.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be above 0, got {sigma:g}; for no noise use 'natural'")
    if sigma > 4:
        raise ValueError(
            f"sigma is in pixels scaled to [0, 1], got {sigma:g}. Did you mean {sigma:g}/255?"
        )
