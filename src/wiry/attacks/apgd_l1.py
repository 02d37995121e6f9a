"""Auto-PGD in l1: one search from a start, which begins in larger balls and ends in the one asked.

Steepest ascent in l1 moves single pixels, which is too sparse to get anywhere and no step size
helps; so how many entries a step moves follows from how many the best point so far has moved. How
often and towards which classes is for `apgd.py`.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.losses import cross_entropy, dlr, targeted_dlr
from wiry.attacks.projections import Ball, normal
from wiry.core.draws import Draws

if TYPE_CHECKING:
    from wiry.attacks.apgd import APGD

_RADII = (3, 2, 1)  # of the balls, in eps
_SHARES = (0.3, 0.3)  # of the steps, in all balls but the last
_CHECK_SHARE = 0.04  # of a ball's steps: how often step size and sparsity are looked at
_NARROWING = 1.5  # a step moves this many times fewer entries than the best point has moved
_SPARSER = 0.95  # fewer entries than this share of the ones before: begin with long steps again
_SHRINKING = 1.5  # else steps get shorter by this factor,
_MIN_SIZE = 0.1  # but no shorter than this share of the longest, which is the radius


def start_l1(
    x: Float[Tensor, "n c h w"], eps: float, generator: torch.Generator | Draws
) -> Float[Tensor, "n c h w"]:
    """Draw a start: the point of the largest ball and the box next to x + N(0, 1)."""
    return Ball(x, "l1", _RADII[0] * eps).project_(normal(x.shape, x, generator).add_(x))


def steps_of(steps: int) -> list[int]:
    """Return how many of the steps are made in each ball, at least one in the last."""
    first = [math.ceil(round(share * steps, 6)) for share in _SHARES]
    return [*first, max(steps - sum(first), 1)]


class SearchL1:
    """One run over a batch, which shrinks in the last ball: only there an image can be found.

    Source: Croce and Hein 2021 ("Mind the box"), Algorithm 1 and the larger radii of section 4.2,
    with the constants of the published code. Differs: an image leaves at its first misclassified
    point; entries that a step does not change keep the value of the image to the bit, so that the
    count of moved entries is exact.
    """

    _PER_IMAGE = ("places", "x", "y", "target", "point", "best", "best_gradient", "best_loss")
    _PER_IMAGE += ("size", "num_moved", "num_moving")

    def __init__(
        self,
        model: nn.Module,
        attack: "APGD",
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        target: Int[Tensor, " n"],
    ) -> None:
        self.model, self.attack, self.x, self.y, self.target = model, attack, x, y, target
        self.places = torch.arange(len(x), device=x.device)

    def run(
        self, start: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Return the images found, their losses and whether they fool the model."""
        self.best = start
        self.found, self.found_loss = start.clone(), start.new_full((len(start),), -torch.inf)
        self.fooled = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        for factor, steps in zip(_RADII, steps_of(self.attack.steps), strict=True):
            self._climb(factor * self.attack.eps, steps, is_last=factor == _RADII[-1])
        self.found[self.places], self.found_loss[self.places] = self.best, self.best_loss
        return self.found, self.found_loss, self.fooled

    def _climb(self, radius: float, steps: int, *, is_last: bool) -> None:
        """Search in one ball, from the best point of the one before."""
        self.ball = Ball(self.x, "l1", radius)
        self.point = self.ball.project_(self.best.clone())
        self.best, self.best_gradient = self.point, torch.zeros_like(self.point)
        self.best_loss = self.point.new_full((len(self.x),), -torch.inf)
        self.size = torch.full_like(self.best_loss, radius)
        self.num_moved = self._count()
        self.num_moving = self._narrowed()
        period = max(int(_CHECK_SHARE * steps), 1)
        for step in range(steps + 1):  # the last one only looks at the loss
            loss, gradient, wrong = self._look(step < steps)
            if is_last and bool(wrong.any()):
                loss, gradient = self._leave(wrong, loss, gradient)
            if len(self.places) == 0:
                return
            self._remember(loss, gradient)
            if step == steps:
                return
            if step > 0 and step % period == 0:
                gradient = self._adapt(gradient, radius)
            direction = sparse_signs(gradient, self.num_moving).mul_(self.size.view(-1, 1, 1, 1))
            self.point = self.ball.project_(direction.add_(self.point))

    def _look(self, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
        point = self.point.detach().requires_grad_(with_gradient)
        looks = [self.model(point) for _ in range(self.attack.num_passes)]
        losses = [self._loss(logits) for logits in looks]
        loss, logits = losses[0], looks[0]
        if len(looks) > 1:
            loss, logits = torch.stack(losses).mean(0), torch.stack(looks).mean(0)
        gradient = torch.autograd.grad(loss.sum(), point)[0] if with_gradient else point
        return loss.detach(), gradient, logits.argmax(1) != self.y

    def _loss(self, logits: Tensor) -> Tensor:
        if self.attack.loss == "targeted-dlr":
            return targeted_dlr(logits, self.y, self.target)
        return (dlr if self.attack.loss == "dlr" else cross_entropy)(logits, self.y)

    def _leave(self, wrong: Tensor, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, going = self.places[wrong], ~wrong
        self.found[left], self.found_loss[left] = self.point[wrong], loss[wrong]
        self.fooled[left] = True
        for name in self._PER_IMAGE:
            setattr(self, name, getattr(self, name)[going])
        self.ball = self.ball.select(going)
        return loss[going], gradient[going]

    def _remember(self, loss: Tensor, gradient: Tensor) -> None:
        better = loss > self.best_loss
        rows = better.view(-1, 1, 1, 1)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best = torch.where(rows, self.point, self.best)
        self.best_gradient = torch.where(rows, gradient, self.best_gradient)

    def _adapt(self, gradient: Tensor, radius: float) -> Tensor:
        """Begin anew at a best point that got sparser, with long steps; else shorten them."""
        num_moved = self._count()
        sparser = num_moved < _SPARSER * self.num_moved
        self.num_moved, self.num_moving = num_moved, self._narrowed(num_moved)
        shorter = (self.size / _SHRINKING).clamp_min_(_MIN_SIZE * radius)
        self.size = torch.where(sparser, radius, shorter)
        rows = sparser.view(-1, 1, 1, 1)
        self.point = torch.where(rows, self.best, self.point)
        return torch.where(rows, self.best_gradient, gradient)

    def _count(self) -> Int[Tensor, " n"]:
        return (self.best != self.x).flatten(1).sum(1)

    def _narrowed(self, num_moved: Tensor | None = None) -> Int[Tensor, " n"]:
        count = self.num_moved if num_moved is None else num_moved
        return (count / _NARROWING).ceil().long().clamp_min_(1)


def sparse_signs(
    gradient: Float[Tensor, "n c h w"], count: Int[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Return the signs of each image's `count` largest entries, scaled to length 1 in l1.

    Entries as large as the smallest of them count too; entries that are 0 never do.
    """
    size = gradient.abs().flatten(1)
    largest = size.topk(int(count.max()), dim=1).values
    threshold = largest.gather(1, count[:, None] - 1)
    signs = gradient.flatten(1).sign().masked_fill_(size < threshold, 0)
    return signs.div_(signs.abs().sum(1, keepdim=True).clamp_min_(1)).view_as(gradient)
