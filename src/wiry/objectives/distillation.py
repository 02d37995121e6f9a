"""Distillation from a robust teacher: attacked, say what the teacher says of the clean image.

The teacher is a network of an earlier stage, put in by the loop (`teacher:` of the stage). It is
only asked, never trained.
"""

import copy
import dataclasses
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.attacks.fgsm import FGSM
from wiry.attacks.losses import kl
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch, Loss
from wiry.core.errors import UserError
from wiry.core.registry import component, registry
from wiry.objectives.base import Forward, accuracy, attack_images

_ATTACK = PGD()
_PUBLISHED = {"ard": (1.0, 30.0), "rslad": (5 / 6, 1.0)}  # share, temperature


@registry("objective").register("distillation")
@dataclasses.dataclass(frozen=True)
class Distillation:
    """KL(teacher on clean || student on attacked images), mixed with a clean term.

    With s the `share` and T the `temperature`:
    "ard": s T^2 KL_T(teacher(x) || student(x')) + (1 - s) CE(student(x), y); the attack raises the
    student's cross-entropy. "rslad": s T^2 KL_T(teacher(x) || student(x')) + (1 - s) T^2
    KL_T(teacher(x) || student(x)); the attack raises the student's divergence from the teacher, so
    labels are used nowhere.

    Source: Goldblum et al. 2020 (ARD), Algorithm 1; Zi et al. 2021 (RSLAD), section 3. Differs:
    means are over images, where ARD's published code divides by the number of classes too; PGD
    starts at a uniform point of the ball, where RSLAD's adds noise of 0.001.

    Published: ARD on CIFAR-10 share 1 and temperature 30; RSLAD share 5/6 and temperature 1.
    """

    attack: component("attack") = _ATTACK
    """Attack on the student; "rslad" needs `pgd` or `fgsm` on the cross-entropy of the labels."""
    variant: Literal["ard", "rslad"] = "ard"
    """Which loss and which inner attack."""
    share: float | None = None
    """Share of the adversarial term, in [0, 1]; left out: the published one of the variant."""
    temperature: float | None = None
    """Both networks' logits are divided by it; left out: the published one of the variant."""

    replays: ClassVar[int] = 1

    _teacher: nn.Module | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share must be in [0, 1], got {self.share:g}")
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature:g}")
        if self.variant == "rslad" and not _takes_probabilities(self.attack):
            raise ValueError(
                "variant 'rslad' attacks the divergence from the teacher, which needs the attack "
                "'pgd' with loss 'ce' or 'fgsm', and label 'true' (the teacher takes its place); "
                f"got {self.attack!r}"
            )

    def with_teacher(self, teacher: nn.Module) -> "Distillation":
        """Return a copy that asks this network, which is in eval mode and without gradients."""
        assert not teacher.training, "a teacher is in eval mode"
        taught = copy.copy(self)
        object.__setattr__(taught, "_teacher", teacher)
        return taught

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        share, temperature = self._resolved()
        target = self._probabilities(batch.x, temperature)
        images = self._attacked(model, batch, target, generator)
        attacked = forward(images)
        total = _divergence(attacked, target, temperature) * share
        metrics = {"robust_accuracy": accuracy(attacked, batch.y)}
        if share < 1:
            clean = forward(batch.x)
            if self.variant == "ard":
                natural = nn.functional.cross_entropy(clean, batch.y)
            else:
                natural = _divergence(clean, target, temperature)
            total = total + (1 - share) * natural
            metrics["accuracy"] = accuracy(clean, batch.y)
        return Loss(total, metrics)

    def _resolved(self) -> tuple[float, float]:
        share, temperature = _PUBLISHED[self.variant]
        return (
            share if self.share is None else self.share,
            temperature if self.temperature is None else self.temperature,
        )

    @torch.no_grad()
    def _probabilities(self, x: Tensor, temperature: float) -> Tensor:
        if self._teacher is None:
            raise UserError(
                "objective 'distillation' has no teacher; set `teacher: STAGE` on the stage, with "
                "the name of an earlier one"
            )
        return (self._teacher(x) / temperature).softmax(1)

    def _attacked(
        self, model: nn.Module, batch: Batch, target: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.variant == "ard":
            return attack_images(self.attack, model, batch, generator)
        # with probabilities for labels, cross-entropy is the divergence plus a constant
        softened = dataclasses.replace(batch, y=target)
        return attack_images(self.attack, model, softened, generator)


def _divergence(
    logits: Float[Tensor, "n classes"], target: Float[Tensor, "n classes"], temperature: float
) -> Float[Tensor, ""]:
    """Return T^2 times the mean divergence; the square keeps the gradient's size (Hinton 2015)."""
    return temperature**2 * kl(logits / temperature, target).mean()


def _takes_probabilities(attack: Any) -> bool:
    if isinstance(attack, FGSM):
        return attack.label == "true"
    return isinstance(attack, PGD) and attack.loss == "ce" and attack.label == "true"
