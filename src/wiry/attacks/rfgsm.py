"""FGSM after a small random step: the one-step attack of Tramer et al., which `fgsm` is not.

The budget is split between a random step of signs and the gradient's step. The starts that fill
their whole ball are in `fgsm`.
"""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Label, Mode, Norm, attacking, check_ball, is_trivial, predict
from wiry.attacks.losses import cross_entropy
from wiry.attacks.projections import Ball
from wiry.core.registry import registry


@registry("attack").register("rfgsm")
@dataclasses.dataclass(frozen=True)
class RFGSM:
    """A step of random signs, then one of the gradient's signs with the rest of the budget.

    Use: beside `fgsm`, to see whether the gradient at the image itself misleads it; never as the
    only attack. Source: Tramer et al. 2018, section 4.2 (RAND+FGSM).
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]; both steps together
    norm: Norm = "linf"
    random_share: float = 0.5  # of eps that goes into the random step; theirs alpha / eps
    label: Label = "true"  # whose cross-entropy is raised
    mode: Mode = "eval"  # of the model's layers during the attack

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, allowed=("linf",))
        if not 0 <= self.random_share < 1:
            raise ValueError(f"random_share must be in [0, 1), got {self.random_share:g}")

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """Return images two steps away."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        random_size = self.random_share * self.eps
        ball = Ball(x, self.norm, self.eps)
        with attacking(model, self.mode):
            labels = predict(model, x) if self.label == "predicted" else y
            noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
            point = ball.step_(x.clone(), noise, random_size)
            loss = cross_entropy(model(point.requires_grad_()), labels).sum()
            (gradient,) = torch.autograd.grad(loss, point)
        return ball.step_(point.detach_(), gradient, self.eps - random_size)
