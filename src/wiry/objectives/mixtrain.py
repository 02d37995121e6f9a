"""MixTrain: certified training on a few random images of a batch, plain training on the rest."""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wiry.attacks.base import check_ball, check_counts
from wiry.bounds.certify import Method, margins
from wiry.bounds.statistics import recorded_statistics
from wiry.core.batch import Batch, Loss
from wiry.core.registry import component, registry
from wiry.objectives.base import Forward, accuracy, attack_images, check_weight
from wiry.objectives.interval import check_schedule, check_shares, ramped


@registry("objective").register("mixtrain")
@dataclasses.dataclass(frozen=True)
class Mixtrain:
    """Cross-entropy plus a growing weight times that on the bounds of a few random images.

    Use: for some certified accuracy at nearly the cost of plain training, or on top of an `attack`.

    Source: Wang et al. 2018 (stochastic robust approximation, dynamic mixed training), with the
    settings of HYDRA's code (Sehwag et al. 2020): with probability `probability` a batch has the
    second term, on `num_images` of its images; the radius grows over 15 of 60 epochs, after which
    the weight grows 2.5-fold every 5, up to 50. The lengths are shares of the stage here.

    Differs: CROWN-IBP bounds in place of symbolic intervals (both keep linear dependences on the
    input, relaxed rectifier by rectifier), or plain intervals with `bound: ibp`; the images are
    drawn without replacement; the radius grows by the batch, not by the epoch. Batch normalisation
    in training mode uses the statistics of the whole batch for the bounds.

    Published: MNIST, eps 0.1: up to 95.2 % verified robust accuracy (abstract of the paper).
    """

    eps: float = 8 / 255
    """Radius of the linf ball at the end of the ramp, pixels in [0, 1]; 0.007 in HYDRA."""
    num_images: int = 5
    """Images of a batch whose bounds are trained; all if the batch is smaller. 1 or 5 in HYDRA."""
    probability: float = 0.8
    """Share of the batches that have the second term, in [0, 1]."""
    weight: float = 0.1
    """Weight of the second term up to the end of the ramp."""
    growth: float = 2.5
    """Factor on the weight after each `period`."""
    period: float = 5 / 60
    """Share of the stage between two growths of the weight, above 0."""
    max_weight: float = 50.0
    """Most that the weight grows to."""
    ramp: float = 15 / 60
    """Share of the stage in which the radius grows."""
    bound: Method = "crown-ibp"
    """Kind of bound."""
    attack: component("attack") = None
    """Makes the images of the first term; left out: they are clean."""

    replays: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_ball(self.eps, "linf")
        check_counts(num_images=self.num_images)
        check_shares(probability=self.probability)
        check_weight("weight", self.weight)
        check_weight("max_weight", self.max_weight)
        check_schedule(0.0, self.ramp)
        if self.growth < 1:
            raise ValueError(f"growth must be at least 1, got {self.growth:g}")
        if self.period <= 0:
            raise ValueError(f"period must be above 0, got {self.period:g}")

    def weight_at(self, progress: float) -> float:
        """Return the weight of the second term at a share of the stage."""
        num_periods = int(max(0.0, progress - self.ramp) / self.period + 1e-9)  # rounding
        grown = self.weight
        for _ in range(num_periods):
            if self.growth == 1 or grown >= self.max_weight:
                break
            grown *= self.growth
        return min(grown, self.max_weight)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        images = batch.x
        if self.attack is not None:
            images = attack_images(self.attack, model, batch, generator)
        chosen = self._draw(batch, generator)
        with recorded_statistics(model) as statistics:
            logits = forward(images)
        total = cross_entropy(logits, batch.y)
        name = "accuracy" if self.attack is None else "robust_accuracy"
        metrics = {name: accuracy(logits, batch.y)}
        if chosen is not None:
            part = Batch(batch.x[chosen], batch.y[chosen], batch.index[chosen])
            eps = ramped(batch.progress, 0.0, self.ramp) * self.eps
            (bound,) = margins(model, part.x, part.y, eps, self.bound, statistics=statistics)
            total = total + self.weight_at(batch.progress) * cross_entropy(-bound, part.y)
        return Loss(total, metrics)

    def _draw(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Return which images of the batch get the second term; None if the batch has none."""
        device = generator.device
        order = torch.randperm(len(batch.y), generator=generator, device=device)
        lucky = torch.rand((), generator=generator, device=device) < self.probability
        return order[: self.num_images].to(batch.y.device) if bool(lucky) else None
