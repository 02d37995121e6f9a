"""Projected gradient descent: the attack of adversarial training, so it is kept lean.

A step is one forward, one gradient on the input and one update in place. What comes with
`restarts`, `drop_fooled`, `label: predicted` or `loss: kl` costs nothing without them.
"""

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
    check_counts,
    check_step_size,
    is_trivial,
    predict,
)
from wiry.attacks.losses import LOSSES, LossName
from wiry.attacks.projections import Ball, normal
from wiry.core.draws import Draws
from wiry.core.registry import registry

_TRADES_NOISE = 0.001  # pixels; the start of the published TRADES code


@registry("attack").register("pgd")
@dataclasses.dataclass(frozen=True)
class PGD:
    """Steepest steps on a loss, each followed by a projection, from a random point of the ball.

    Source: Madry et al. 2018, section 2.1; the default step of 2.5 eps / steps is from section 5.
    Differs: l1 steps move the top 1 % of the entries and the projection onto the l1 ball inside
    [0, 1] is exact (Croce and Hein 2021).

    With one restart the result is the last point. With more it is, per image, the last point that
    fooled the model, or else that of the highest loss. `label: predicted` attacks the model's own
    clean prediction, as the code of Cosentino et al. 2019 does: an image that is misclassified is
    then moved away from a wrong class.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    steps: int = 10
    step_size: float | None = None  # pixels; left out: 2.5 eps / steps
    random_start: bool = True  # false with "kl": the clean image plus noise of 0.001 (TRADES)
    restarts: int = 1
    loss: LossName = "ce"  # "kl" is from the clean probabilities (TRADES) and needs no label
    label: Label = "true"
    mode: Mode = "eval"  # of the model's layers during the attack
    drop_fooled: bool = False  # fooled images stop at once: for evaluation, about twice as fast

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(steps=self.steps, restarts=self.restarts)
        check_step_size(self.step_size)
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"restarts={self.restarts} without random_start repeats the same search; "
                "set random_start=True or restarts=1"
            )
        if self.drop_fooled and self.mode != "eval":
            raise ValueError(
                f"drop_fooled needs mode 'eval', got {self.mode!r}: batch statistics would change "
                "with the images that are left"
            )

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Return the images found."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        with attacking(model, self.mode):
            reference = self._reference(model, x, y)
            ball = Ball(x, self.norm, self.eps)
            if self.restarts > 1:
                return self._best_restart(model, ball, reference, generator)
            return self._search(model, ball, self._start(ball, generator), reference)

    @property
    def keeps_batch(self) -> bool:
        """Say whether the model is always called with all images, in their order."""
        return self.restarts == 1 and not self.drop_fooled

    def resolved_step_size(self) -> float:
        """Return the step size in pixels."""
        return 2.5 * self.eps / self.steps if self.step_size is None else self.step_size

    def _reference(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.loss == "kl":
            with torch.no_grad():
                return model(x).softmax(1)
        return predict(model, x) if self.label == "predicted" else y

    def _start(self, ball: Ball, generator: torch.Generator | Draws) -> Tensor:
        if self.random_start:
            return ball.draw(generator)
        if self.loss != "kl":
            return ball.x.clone()
        # at the clean image itself the divergence is at its minimum and has no gradient
        noise = normal(ball.x.shape, ball.x, generator)
        return ball.project_(ball.x + noise.mul_(_TRADES_NOISE))

    def _search(self, model: nn.Module, ball: Ball, point: Tensor, reference: Tensor) -> Tensor:
        if self.drop_fooled:
            return self._search_dropping(model, ball, point, reference)
        loss, size = LOSSES[self.loss], self.resolved_step_size()
        for _ in range(self.steps):
            total = loss(model(point.requires_grad_()), reference).sum()
            (gradient,) = torch.autograd.grad(total, point)
            ball.step_(point.detach_(), gradient, size)
        return point

    def _search_dropping(
        self, model: nn.Module, ball: Ball, point: Tensor, reference: Tensor
    ) -> Tensor:
        loss, size = LOSSES[self.loss], self.resolved_step_size()
        found, places = point.clone(), torch.arange(len(point), device=point.device)
        for _ in range(self.steps):
            logits = model(point.requires_grad_())
            (gradient,) = torch.autograd.grad(loss(logits, reference).sum(), point)
            point.detach_()
            going = logits.argmax(1) == _labels(reference)
            if not bool(going.all()):
                found[places[~going]] = point[~going]
                places, ball, reference = places[going], ball.select(going), reference[going]
                point, gradient = point[going], gradient[going]
            if len(places) == 0:
                return found
            ball.step_(point, gradient, size)
        found[places] = point
        return found

    def _best_restart(
        self, model: nn.Module, ball: Ball, reference: Tensor, generator: torch.Generator | Draws
    ) -> Tensor:
        best, best_loss = ball.x.clone(), ball.x.new_full((len(ball.x),), -torch.inf)
        fooled = torch.zeros_like(best_loss, dtype=torch.bool)
        for _ in range(self.restarts):
            start = self._start(ball, generator)  # for all images, whoever is fooled already
            going = ~fooled if self.mode == "eval" else torch.ones_like(fooled)
            places = going.nonzero().squeeze(1)
            if len(places) == 0:
                break
            part, was = reference[places], fooled[places]
            point = self._search(model, ball.select(places), start[places], part)
            with torch.no_grad():
                logits = model(point)
                value = LOSSES[self.loss](logits, part).to(best_loss)
            now = logits.argmax(1) != _labels(part)
            better = (now & ~was) | ((now == was) & (value > best_loss[places]))
            chosen = places[better]
            best[chosen], best_loss[chosen] = point[better], value[better]
            fooled[chosen] = now[better]
        return best


def _labels(reference: Tensor) -> Tensor:
    """Return the labels; clean probabilities stand for the class they make likeliest."""
    return reference if reference.dim() == 1 else reference.argmax(1)
