"""Adversarial training: cross-entropy on what an attack makes of the images, or a mixture."""

import dataclasses
from typing import ClassVar, Literal

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
    (and Goodfellow et al. 2015, section 6); with the attack `fgsm` and its `random_start`, fast
    adversarial training (Wong et al. 2020, algorithm 3). Adversarial images are constants of the
    loss. A mixture takes one forward over both halves, so batch statistics are those of the
    mixture.

    With `mix: halves` (objective "mat" in the code of Ozdenizci and Legenstein 2021) each image is
    either attacked or clean: those at even places of the batch are attacked, and the loss is the
    mean over the batch, so a step costs half the attack and one plain forward. Accuracies are those
    of the half they belong to.
    """

    attack: component("attack") = _ATTACK
    natural_weight: float = 0.0  # share of the clean loss, in [0, 1)
    label_smoothing: float = 0.0  # share of the label spread over all classes, in [0, 1)
    mix: Literal["both", "halves"] = "both"  # "halves": every other image is attacked, none twice

    replays: ClassVar[int] = 1

    @property
    def is_joinable(self) -> bool:
        """Say whether the loss is that of one attack on the whole batch."""
        return self.mix == "both"

    def __post_init__(self) -> None:
        check_share("natural_weight", self.natural_weight)
        check_share("label_smoothing", self.label_smoothing)
        if self.mix == "halves" and self.natural_weight:
            raise ValueError(
                "mix 'halves' weighs all images of a batch alike; leave natural_weight at 0, got "
                f"{self.natural_weight:g}, or use mix 'both'"
            )

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        if self.mix == "halves":
            return self._halves(forward, model, batch, generator)
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

    def _halves(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        x, y = batch.x, batch.y
        half = dataclasses.replace(batch, x=x[::2], y=y[::2], index=batch.index[::2])
        images = x.clone()
        images[::2] = attack_images(self.attack, model, half, generator)
        logits = forward(images)
        metrics = {"robust_accuracy": accuracy(logits[::2], y[::2])}
        if len(y) > 1:  # a batch of one has no clean half
            metrics["accuracy"] = accuracy(logits[1::2], y[1::2])
        return Loss(cross_entropy(self.label_smoothing)(logits, y), metrics)
