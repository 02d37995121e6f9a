"""Adversarial training: cross-entropy on what an attack makes of the images, or a mixture."""

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch, Loss
from wiry.core.registry import component, registry
from wiry.objectives.base import (
    Forward,
    accuracy,
    attack_images,
    check_share,
    cross_entropy,
)

_ATTACK = PGD()


@registry("objective").register("adversarial")
@dataclasses.dataclass(frozen=True)
class Adversarial:
    """Cross-entropy on adversarial images, mixed with that on clean ones if asked.

    Source: Madry et al. 2018, eq. 2.1; with `natural_weight` 0.5 the loss of Cosentino et al. 2019
    (and Goodfellow et al. 2015, section 6). Adversarial images are constants of the loss. A mixture
    takes one forward over both halves, so batch statistics are those of the mixture.
    """

    attack: component("attack") = _ATTACK
    natural_weight: float = 0.0  # share of the clean loss, in [0, 1)
    label_smoothing: float = 0.0  # share of the label spread over all classes, in [0, 1)

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share("natural_weight", self.natural_weight)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        images = attack_images(self.attack, model, batch, generator)
        loss = cross_entropy(self.label_smoothing)
        if self.natural_weight == 0:
            logits = forward(images)
            return Loss(loss(logits, batch.y), {"robust_accuracy": accuracy(logits, batch.y)})
        clean, attacked = forward(torch.cat([batch.x, images])).chunk(2)
        share = self.natural_weight
        total = share * loss(clean, batch.y) + (1 - share) * loss(attacked, batch.y)
        metrics = {
            "accuracy": accuracy(clean, batch.y),
            "robust_accuracy": accuracy(attacked, batch.y),
        }
        return Loss(total, metrics)
