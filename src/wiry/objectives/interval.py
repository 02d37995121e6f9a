"""Training on interval bounds, and what the certified objectives share: ramps and worst logits."""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wiry.attacks.base import check_ball
from wiry.bounds.certify import Method, margins
from wiry.bounds.statistics import recorded_statistics
from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy


@registry("objective").register("ibp")
@dataclasses.dataclass(frozen=True)
class Ibp:
    """Cross-entropy on clean logits mixed with that on the worst logits of interval bounds.

    Use: for proofs that cost two forward passes and no attack; clean accuracy falls more than with
    an attack, and a ramp of few steps may collapse: then lengthen it or take `crown-ibp`.

    Source: Gowal et al. 2018, eq. 12, with their schedule: after a warm-up on clean images the
    radius grows linearly while the clean share falls from 1 to `natural_weight`.

    Differs: batch normalisation (their networks have none) uses one set of statistics for clean
    logits and bounds: in training mode those of the clean batch, with their gradient, as in the
    code of Zhang et al. 2020; so what is bounded is the network with these statistics held fixed.
    The radius trained for is `eps` itself; they train for a larger one than they test.

    Published: certified error of 8.05 % on MNIST at eps 0.3 and 72.91 % on CIFAR-10 at 8/255 (the
    abstract of the second version), the final bound of each image found by a solver.
    """

    eps: float = 8 / 255
    """Radius of the linf ball at the end of the ramp, pixels in [0, 1]."""
    natural_weight: float = 0.5
    """Share of the clean loss after the ramp, in [0, 1]; kappa of the paper."""
    warmup: float = 2 / 60
    """Share of the stage on clean images alone; 2,000 of 60,000 steps on MNIST."""
    ramp: float = 10 / 60
    """Share of the stage in which the radius grows; 10,000 of 60,000 steps on MNIST."""

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_ball(self.eps, "linf")
        check_shares(natural_weight=self.natural_weight)
        check_schedule(self.warmup, self.ramp)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        grown = ramped(batch.progress, self.warmup, self.ramp)
        logits, (bound,) = forward_with_margins(forward, model, batch, grown * self.eps, "ibp")
        return mixed_loss(logits, bound, batch, natural=1 - grown * (1 - self.natural_weight))


def forward_with_margins(
    forward: Forward, model: nn.Module, batch: Batch, eps: float, *methods: Method
) -> tuple[Float[Tensor, "n classes"], list[Float[Tensor, "n classes"]]]:
    """Return clean logits and, for each method, lower bounds on the margins (see `margins`).

    Batch normalisation in training mode has the statistics of this clean forward pass in both, and
    its running statistics move once.
    """
    with recorded_statistics(model) as statistics:
        logits = forward(batch.x)
    return logits, margins(model, batch.x, batch.y, eps, *methods, statistics=statistics)


def mixed_loss(
    logits: Float[Tensor, "n classes"],
    bound: Float[Tensor, "n classes"],
    batch: Batch,
    *,
    natural: float,
) -> Loss:
    """Return `natural` times the clean cross-entropy plus the rest times that of the worst logits.

    The worst logits are the negated lower bounds of the margins, of which the true class's is 0.
    "certified_accuracy" is the share of images whose bounds are all above 0, at this step's radius.
    """
    total = (1 - natural) * cross_entropy(-bound, batch.y) if natural < 1 else bound.sum() * 0
    if natural > 0:
        total = total + natural * cross_entropy(logits, batch.y)
    metrics = {
        "accuracy": accuracy(logits, batch.y),
        "certified_accuracy": certified_share(bound, batch),
    }
    return Loss(total, metrics)


@torch.no_grad()
def certified_share(bound: Float[Tensor, "n classes"], batch: Batch) -> Float[Tensor, ""]:
    """Return the share of images of which all margins but that to the own class are above 0."""
    own = torch.arange(bound.shape[1], device=bound.device) == batch.y[:, None]
    return ((bound > 0) | own).all(1).float().mean()


def ramped(progress: float, warmup: float, ramp: float) -> float:
    """Return how far a linear ramp has come: 0 up to `warmup`, 1 from `warmup + ramp` on."""
    if ramp == 0:
        return float(progress >= warmup)
    return min(1.0, max(0.0, (progress - warmup) / ramp))


def check_shares(**shares: float) -> None:
    """Check shares that may be the whole.

    Raises:
        ValueError: naming the first that is outside [0, 1].
    """
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value:g}")


def check_schedule(warmup: float, ramp: float) -> None:
    """Check that a ramp ends within the stage.

    Raises:
        ValueError: if a share is outside [0, 1] or together they are longer than the stage.
    """
    check_shares(warmup=warmup, ramp=ramp)
    if warmup + ramp > 1:
        raise ValueError(
            f"warmup + ramp must be at most 1, the whole stage, got {warmup:g} + {ramp:g}: the "
            "radius asked for would never be trained"
        )
