"""Auto-PGD: PGD that chooses its own step size. For evaluation; images leave as soon as fooled.

One search is one start and one loss. The targeted loss makes one search per target class; the class
`_Search` holds what a search remembers per image, and shrinks with the batch.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.apgd_l1 import SearchL1, start_l1
from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.losses import cross_entropy, dlr, targeted_dlr
from wiry.attacks.projections import Ball
from wiry.attacks.targets import by_target, check_rank, wrong_classes
from wiry.core.draws import Draws
from wiry.core.registry import registry

APGDLoss = Literal["ce", "dlr", "targeted-dlr"]

_MOMENTUM = 0.75  # alpha: share of the new step, the rest is the move before
_MIN_PROGRESS = 0.75  # rho: share of the steps that must raise the loss
_FIRST_PERIOD, _PERIOD_DECREASE, _MIN_PERIOD = 0.22, 0.03, 0.06  # shares of the steps


@registry("attack").register("apgd")
@dataclasses.dataclass(frozen=True)
class APGD:
    """PGD with momentum that halves its step and returns to the best point when progress stalls.

    Source: Croce and Hein 2020, Algorithm 1, with its constants. Differs: an image leaves at its
    first misclassified point, so no later point of a higher loss is looked for; images that are
    misclassified when clean are returned unchanged; "dlr" is the margin below 4 classes. The model
    is always in evaluation mode, because batch statistics would change as images leave.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"  # l1: see `apgd_l1.SearchL1`
    loss: APGDLoss = "ce"
    steps: int = 100
    restarts: int = 1
    num_targets: int = 9  # for "targeted-dlr": the likeliest wrong classes, at most all of them
    target_rank: int | None = None  # of the wrong classes only this (0: the likeliest)
    num_passes: int = 1  # forward passes averaged in each look (EOT), for models that are random

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(
            steps=self.steps,
            restarts=self.restarts,
            num_targets=self.num_targets,
            num_passes=self.num_passes,
        )
        check_rank(self.target_rank)

    def parts(self, num_classes: int) -> tuple["APGD", ...]:
        """Return the searches towards one class each which, run in turn, are this attack."""
        return by_target(self, num_classes) if self.loss == "targeted-dlr" else (self,)

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Return the images found: the first that fools, or else the highest loss seen."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        with attacking(model, "eval"):
            with torch.no_grad():
                clean = model(x)
            found, found_loss = x.clone(), x.new_full((len(x),), -torch.inf)
            standing = clean.argmax(1) == y
            for target in self._targets(clean, y):
                for _ in range(self.restarts):
                    start = self._start(x, generator)
                    places = standing.nonzero().squeeze(1)
                    if len(places) == 0:
                        return found
                    kind = SearchL1 if self.norm == "l1" else _Search
                    search = kind(model, self, x[places], y[places], target[places])
                    point, loss, fooled = search.run(start[places])
                    better = fooled | (loss > found_loss[places])
                    chosen = places[better]
                    found[chosen], found_loss[chosen] = point[better], loss[better]
                    standing[places[fooled]] = False
        return found

    def _start(self, x: Tensor, generator: torch.Generator | Draws) -> Tensor:
        if self.norm == "l1":
            return start_l1(x, self.eps, generator)
        return Ball(x, self.norm, self.eps).draw(generator)

    def _targets(self, clean: Tensor, y: Tensor) -> list[Tensor]:
        if self.loss != "targeted-dlr":
            return [y]
        return wrong_classes(clean, y, num_targets=self.num_targets, target_rank=self.target_rank)


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size may be halved, written w_j in Algorithm 1."""
    before, share, found = 0.0, _FIRST_PERIOD, []
    while share <= 1:
        found.append(math.ceil(round(share * steps, 6)))
        period = max(share - before - _PERIOD_DECREASE, _MIN_PERIOD)
        before, share = share, share + period
    return sorted(set(found))


class _Search:
    """One run of Algorithm 1 over a batch that shrinks; names in brackets are the paper's.

    `places` says where in the first batch each remaining image is; every tensor in `_PER_IMAGE`
    loses the rows of the images that leave.
    """

    _PER_IMAGE = (
        *("places", "y", "target", "point", "before", "best", "best_gradient", "best_loss"),
        *("last_loss", "num_raised", "size", "is_halved", "checked_loss"),
    )

    def __init__(self, model: nn.Module, attack: APGD, x: Tensor, y: Tensor, target: Tensor):
        self.model, self.attack, self.y, self.target = model, attack, y, target
        self.ball = Ball(x, attack.norm, attack.eps)
        self.places = torch.arange(len(x), device=x.device)

    def run(self, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images found, their losses and whether they fool the model."""
        n = len(start)
        found, found_loss = start.clone(), start.new_full((n,), -torch.inf)
        fooled = torch.zeros(n, dtype=torch.bool, device=start.device)
        self._begin(start)
        periods = checkpoints(self.attack.steps)
        for step in range(self.attack.steps + 1):  # the last one only looks at the loss
            loss, gradient, wrong = self._look(step < self.attack.steps)
            if bool(wrong.any()):
                left = self.places[wrong]
                found[left], found_loss[left], fooled[left] = self.point[wrong], loss[wrong], True
                self._keep(~wrong)
                loss, gradient = loss[~wrong], gradient[~wrong]
                if len(self.places) == 0:
                    return found, found_loss, fooled
            self._remember(loss, gradient)
            if step in periods:
                last = periods.index(step) - 1
                gradient = self._adapt(gradient, step - (periods[last] if last >= 0 else 0))
            if step < self.attack.steps:
                self._move(gradient, step)
        found[self.places], found_loss[self.places] = self.best, self.best_loss
        return found, found_loss, fooled

    def _begin(self, start: Tensor) -> None:
        self.point, self.before, self.best = start, start, start.clone()
        self.best_gradient = torch.zeros_like(start)
        low = start.new_full((len(start),), -torch.inf)
        self.best_loss, self.last_loss, self.checked_loss = low, low.clone(), low.clone()
        self.num_raised = torch.full_like(low, -1)  # the look at the start raises it to 0
        self.size = torch.full_like(low, 2 * self.attack.eps)  # eta
        self.is_halved = torch.ones_like(low, dtype=torch.bool)  # condition 2 needs a period before

    def _look(self, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
        point = self.point.detach().requires_grad_(with_gradient)
        looks = [self.model(point) for _ in range(self.attack.num_passes)]
        logits = looks[0]
        loss = self._loss()(logits)
        if len(looks) > 1:
            loss = torch.stack([self._loss()(look) for look in looks]).mean(0)
            logits = torch.stack(looks).mean(0)
        gradient = torch.autograd.grad(loss.sum(), point)[0] if with_gradient else point
        return loss.detach(), gradient, logits.argmax(1) != self.y

    def _loss(self) -> Callable[[Tensor], Tensor]:
        if self.attack.loss == "ce":
            return lambda logits: cross_entropy(logits, self.y)
        if self.attack.loss == "dlr":
            return lambda logits: dlr(logits, self.y)
        return lambda logits: targeted_dlr(logits, self.y, self.target)

    def _keep(self, going: Tensor) -> None:
        for name in self._PER_IMAGE:
            setattr(self, name, getattr(self, name)[going])
        self.ball = self.ball.select(going)

    def _remember(self, loss: Tensor, gradient: Tensor) -> None:
        self.num_raised += loss > self.last_loss
        self.last_loss = loss
        better = loss > self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best[better] = self.point[better]
        self.best_gradient[better] = gradient[better]

    def _adapt(self, gradient: Tensor, period: int) -> Tensor:
        """Halve the step and go back to the best point where progress stalled (conditions 1, 2)."""
        stalled = self.num_raised < _MIN_PROGRESS * period
        stalled |= ~self.is_halved & (self.best_loss <= self.checked_loss)
        self.size = torch.where(stalled, self.size / 2, self.size)
        rows = stalled.view(-1, 1, 1, 1)
        self.point = torch.where(rows, self.best, self.point)
        self.last_loss = torch.where(stalled, self.best_loss, self.last_loss)
        self.is_halved, self.checked_loss = stalled, self.best_loss
        self.num_raised = torch.zeros_like(self.num_raised)
        return torch.where(rows, self.best_gradient, gradient)

    def _move(self, gradient: Tensor, step: int) -> None:
        stepped = self.ball.step_(self.point.clone(), gradient, self.size)
        if step > 0:  # the first step has nothing before it
            # point + momentum (stepped - point) + (1 - momentum) (point - before)
            stepped.mul_(_MOMENTUM).add_(self.point, alpha=2 * (1 - _MOMENTUM))
            stepped = self.ball.project_(stepped.sub_(self.before, alpha=1 - _MOMENTUM))
        self.before, self.point = self.point, stepped
