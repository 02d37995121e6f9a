"""CROWN-IBP: training on bounds that begin tight and expensive and end as plain intervals."""

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wiry.attacks.base import check_ball
from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward
from wiry.objectives.interval import (
    check_schedule,
    check_shares,
    forward_with_margins,
    mixed_loss,
    ramped,
)


@registry("objective").register("crown-ibp")
@dataclasses.dataclass(frozen=True)
class CrownIbp:
    """Cross-entropy on the worst logits of CROWN bounds that fade into interval bounds.

    Use: like `ibp`, but steadier where the radius is large or the stage short; a step of the ramp
    costs about as many forward passes as there are classes, afterwards as little as `ibp`.

    Source: Zhang et al. 2020, section 3.3: bound = beta * CROWN-IBP + (1 - beta) * IBP, where beta
    falls from 1 to `crown_weight` while the radius grows, and loss = kappa * clean + (1 - kappa) *
    worst. Defaults are those of HYDRA (Sehwag et al. 2020): ramp over 120 of 200 epochs from the
    start, no CROWN after it, and no clean term, which is the paper's kappa of 0 as well. The loss
    begins as the clean one all the same, because the radius begins at 0.

    Differs: statistics of batch normalisation as in `ibp`; the ball is cut to [0, 1] always.

    Published: certified error of 7.02 % on MNIST at eps 0.3 and 66.94 % on CIFAR-10 at 8/255 (the
    paper's abstract).
    """

    eps: float = 8 / 255
    """Radius of the linf ball at the end of the ramp, pixels in [0, 1]; 0.007 in HYDRA."""
    crown_weight: float = 0.0
    """Share of the CROWN bound after the ramp, in [0, 1]; beta_end of the paper."""
    natural_start: float = 0.0
    """Share of the clean loss at the start, in [0, 1]; kappa_start of the paper."""
    natural_end: float = 0.0
    """Share of the clean loss after the ramp, in [0, 1]; kappa_end of the paper."""
    warmup: float = 0.0
    """Share of the stage at radius 0."""
    ramp: float = 0.6
    """Share of the stage in which the radius grows."""

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_ball(self.eps, "linf")
        check_shares(crown_weight=self.crown_weight)
        check_shares(natural_start=self.natural_start, natural_end=self.natural_end)
        check_schedule(self.warmup, self.ramp)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        grown = ramped(batch.progress, self.warmup, self.ramp)
        eps, beta = grown * self.eps, 1 - grown * (1 - self.crown_weight)
        natural = self.natural_start + grown * (self.natural_end - self.natural_start)
        if eps == 0 or beta == 0:  # where both bounds are one, or only the cheap one counts
            logits, (bound,) = forward_with_margins(forward, model, batch, eps, "ibp")
        else:
            logits, (crown, box) = forward_with_margins(
                forward, model, batch, eps, "crown-ibp", "ibp"
            )
            bound = beta * crown + (1 - beta) * box
        return mixed_loss(logits, bound, batch, natural=natural)
