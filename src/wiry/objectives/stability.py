"""Stability training: the prediction is to be the same with noise as without. No attack."""

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wiry.attacks.losses import kl
from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy, check_share, check_weight, cross_entropy
from wiry.objectives.noise import check_sigma, noisy


@registry("objective").register("stability")
@dataclasses.dataclass(frozen=True)
class Stability:
    """Clean cross-entropy plus `beta` times KL(clean || noisy), for a network that is smoothed.

    Source: Li et al. 2019 (stability training), in the form of Sehwag et al. 2020 (HYDRA,
    "smooth"), through which gradients flow on both sides. The noise is Gaussian and not clipped.

    Published: sigma 0.25 and beta 6 (HYDRA).
    """

    sigma: float = 0.25
    """Standard deviation of the noise, pixels in [0, 1]."""
    beta: float = 6.0
    """Weight of the divergence."""
    label_smoothing: float = 0.0
    """Of the clean term: share of the label spread over all classes, in [0, 1)."""

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_weight("beta", self.beta)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        clean, blurred = forward(batch.x), forward(noisy(batch.x, self.sigma, generator))
        divergence = kl(blurred, clean.softmax(1)).mean()
        total = cross_entropy(self.label_smoothing)(clean, batch.y) + self.beta * divergence
        metrics = {
            "accuracy": accuracy(clean, batch.y),
            "noisy_accuracy": accuracy(blurred, batch.y),
        }
        return Loss(total, metrics)
