"""The fast gradient sign method: one step. It shares its geometry with `pgd` and has no loop."""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import (
    Label,
    Mode,
    Norm,
    attacking,
    check_ball,
    check_step_size,
    is_trivial,
    predict,
)
from wiry.attacks.losses import cross_entropy
from wiry.attacks.projections import Ball
from wiry.core.draws import Draws
from wiry.core.registry import registry


@registry("attack").register("fgsm")
@dataclasses.dataclass(frozen=True)
class FGSM:
    """One steepest step on the cross-entropy, from the image or from a random point of its ball.

    Source: Goodfellow et al. 2015; with `random_start` it is FGSM-RS of Wong et al. 2020. Differs:
    in l2 and l1 the step is the steepest in that norm.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    random_start: bool = False
    step_size: float | None = None  # pixels; left out: eps, or 1.25 eps with a random start
    label: Label = "true"  # whose cross-entropy is raised
    mode: Mode = "eval"  # of the model's layers during the attack

    draws_per_image: ClassVar[bool] = True
    keeps_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_step_size(self.step_size)

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Return images one step away."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        ball = Ball(x, self.norm, self.eps)
        with attacking(model, self.mode):
            labels = predict(model, x) if self.label == "predicted" else y
            point = ball.draw(generator) if self.random_start else x.clone()
            loss = cross_entropy(model(point.requires_grad_()), labels).sum()
            (gradient,) = torch.autograd.grad(loss, point)
        return ball.step_(point.detach_(), gradient, self.resolved_step_size())

    def resolved_step_size(self) -> float:
        """Return the step size in pixels."""
        if self.step_size is not None:
            return self.step_size
        return (1.25 if self.random_start else 1.0) * self.eps
