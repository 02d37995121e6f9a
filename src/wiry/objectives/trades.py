"""TRADES: clean cross-entropy plus a pull of the adversarial prediction to the clean one."""

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wiry.attacks.losses import kl
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch, Loss
from wiry.core.registry import component, registry
from wiry.objectives.base import (
    Forward,
    accuracy,
    attack_images,
    check_share,
    check_weight,
    cross_entropy,
)

_ATTACK = PGD(loss="kl", random_start=False)


@registry("objective").register("trades")
@dataclasses.dataclass(frozen=True)
class Trades:
    """Clean cross-entropy plus `beta` times KL(clean || adversarial).

    Source: Zhang et al. 2019, eq. 5, with the divergence of their published code, through which
    gradients flow on both sides. Differs: the default attack has eps 8/255 and steps of 2/255,
    theirs 0.031 and 0.007; its start, the clean image plus noise of 0.001, is theirs.
    """

    attack: component("attack") = _ATTACK
    beta: float = 6.0  # weight of the divergence, 1 / lambda in the paper
    label_smoothing: float = 0.0  # of the clean term, in [0, 1)

    replays: ClassVar[int] = 1
    is_joinable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_weight("beta", self.beta)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        images = attack_images(self.attack, model, batch, generator)
        clean, attacked = forward(batch.x), forward(images)
        divergence = kl(attacked, clean.softmax(1)).mean()
        total = cross_entropy(self.label_smoothing)(clean, batch.y) + self.beta * divergence
        metrics = {
            "accuracy": accuracy(clean, batch.y),
            "robust_accuracy": accuracy(attacked, batch.y),
        }
        return Loss(total, metrics)
