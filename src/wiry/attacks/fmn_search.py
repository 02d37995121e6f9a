"""One search of FMN: a ball that shrinks where the network is fooled and grows where it is not, and
gradient steps inside it.

Its start is the image and its goal one class or any; what many of them add up to is `fmn.py`.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from wiry.attacks.base import Forward
from wiry.attacks.losses import cross_entropy, dlr, margin, targeted_dlr
from wiry.attacks.minimum_norm import DUAL, MinimumNorm, distances, halved, limited, rows, widest
from wiry.attacks.projections import lengths

FMNLoss = Literal["logit-difference", "ce", "dlr"]
Optimizer = Literal["sgd", "adam", "adamax"]
Scheduler = Literal["cosine", "plateau"]

_SHRINK, _LAST_SHRINK = 0.05, 1e-3  # gamma_0 and gamma_K, as in the authors' code
_LAST_STEP = 1e-2  # share of the first step
_PATIENCE = 0.1  # share of the steps without a shorter distance, after which a plateau halves
_HALVINGS = 10  # of the way back; they shorten what has not come to rest, mostly in l1
_FADE, _SQUARE_FADE = 0.9, 0.999  # Kingma and Ba 2015
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one search goes; see `fast_minimum_norm` for the fields."""

    norm: str
    steps: int
    step_size: float
    loss: FMNLoss = "logit-difference"
    optimizer: Optimizer = "sgd"
    scheduler: Scheduler = "cosine"
    within: float = 0.0


class Search:
    """One run over images that are right; names in brackets are the paper's.

    `places` says where in the first batch each remaining image is; every tensor in `_PER_IMAGE`
    loses the rows of the images that are done.
    """

    _PER_IMAGE = (
        *("places", "x", "y", "target", "point", "best", "best_distance", "radius"),
        *("mean", "square", "scale", "fell_at"),
    )

    def __init__(
        self, model: Forward, settings: Settings, x: Tensor, y: Tensor, target: Tensor | None
    ) -> None:
        self.model, self.settings, self.x, self.y = model, settings, x, y
        self.is_targeted = target is not None
        self.target = y if target is None else target
        self.places = torch.arange(len(x), device=x.device)
        self.point, self.best = x.clone(), x.clone()
        self.best_distance = x.new_full((len(x),), torch.inf)
        self.radius, self.scale = x.new_zeros(len(x)), x.new_ones(len(x))
        self.fell_at = torch.zeros_like(y)
        self.mean, self.square = torch.zeros_like(x), torch.zeros_like(x)

    def run(self) -> MinimumNorm:
        """Return the nearest misclassified point found for each image."""
        found = MinimumNorm(self.best_distance.clone(), self.x.clone())
        for step in range(self.settings.steps + 1):  # the last one only looks
            is_last = step == self.settings.steps
            value, gradient, wrong = self._look(not is_last)
            distance = self._remember(step, wrong)
            done = (self.best_distance <= self.settings.within) | is_last
            if bool(done.any()):
                self._leave(found, done)
                if len(self.places) == 0:
                    break
                value, gradient, wrong, distance = (
                    kept[~done] for kept in (value, gradient, wrong, distance)
                )
            self._adapt(step, value, gradient, wrong, distance)
            self._move(step, gradient)
        return found

    def _look(self, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return how far the loss is from the boundary, its gradient, and what fools."""
        point = self.point.detach().requires_grad_(with_gradient)
        logits = self.model(point)
        value = self._loss(logits)
        gradient = torch.autograd.grad(value.sum(), point)[0] if with_gradient else point
        stuck = torch.where(gradient > 0, self.point >= 1, self.point <= 0)
        wrong = logits.argmax(1) != self.y
        return value.detach().abs(), gradient.detach().masked_fill(stuck, 0), wrong

    def _loss(self, logits: Tensor) -> Tensor:
        """Return what is climbed, about 0 on the boundary."""
        name = self.settings.loss
        if self.is_targeted:
            if name == "ce":
                return math.log(2) - cross_entropy(logits, self.target)
            if name == "dlr":
                return targeted_dlr(logits, self.y, self.target)
            own, wanted = (logits.gather(1, c[:, None]).squeeze(1) for c in (self.y, self.target))
            return wanted - own
        if name == "ce":
            return cross_entropy(logits, self.y) - math.log(2)
        return (dlr if name == "dlr" else margin)(logits, self.y)

    def _remember(self, step: int, wrong: Tensor) -> Tensor:
        """Keep what is nearer than before, and return how far each point is from its image."""
        distance = distances(self.point - self.x, self.settings.norm)
        better = wrong & (distance < self.best_distance)
        self.best = torch.where(rows(better), self.point, self.best)
        self.best_distance = torch.where(better, distance, self.best_distance)
        self.fell_at = torch.where(better, step, self.fell_at)
        return distance

    def _leave(self, found: MinimumNorm, done: Tensor) -> None:
        """Write down what was found for the images that are done, and go on without them."""
        fooled = done & self.best_distance.isfinite()
        x, y, best, places = (v[fooled] for v in (self.x, self.y, self.best, self.places))
        distance = self.best_distance[fooled]
        if self.settings.norm != "l0" and self.settings.within == 0 and len(x):
            best = halved(self.model, x, y, best, _HALVINGS)
            distance = distances(best - x, self.settings.norm)
        found.distance[places], found.adversarial[places] = distance, best
        for name in self._PER_IMAGE:
            setattr(self, name, getattr(self, name)[~done])

    def _adapt(
        self, step: int, value: Tensor, gradient: Tensor, wrong: Tensor, distance: Tensor
    ) -> None:
        """Set the radii (epsilon): smaller where fooled; else larger, first to the boundary."""
        norm = self.settings.norm
        shrink = _LAST_SHRINK + (_SHRINK - _LAST_SHRINK) * self._cosine(step)  # gamma_k
        smaller, larger = self.radius * (1 - shrink), self.radius * (1 + shrink)
        boundary = distance + value / lengths(gradient, DUAL[norm]).clamp_min(_TINY)
        if norm == "l0":  # whole entries, and at least one more or less
            smaller = smaller.floor().minimum(self.radius - 1).clamp_min(1)
            larger, boundary = larger.floor().maximum(self.radius + 1), boundary.ceil()
        never = self.best_distance.isinf()
        larger = torch.where(never, larger.maximum(boundary), larger)
        self.radius = torch.where(wrong, smaller.minimum(self.best_distance), larger)
        self.radius = self.radius.clamp_max(widest(self.x, norm))

    def _move(self, step: int, gradient: Tensor) -> None:
        """Step along the gradient and go back into ball and box."""
        if self.settings.scheduler == "cosine":
            scale = _LAST_STEP + (1 - _LAST_STEP) * self._cosine(step)
        else:
            patience = max(1, round(_PATIENCE * self.settings.steps))
            stalled = (step - self.fell_at >= patience) & self.best_distance.isfinite()
            scale = self.scale = torch.where(stalled, self.scale / 2, self.scale)
            self.fell_at = torch.where(stalled, step, self.fell_at)
        # l2 lengths, but in linf each entry's
        reach = self.radius.sqrt() if self.settings.norm == "l0" else self.radius
        size = self.settings.step_size * scale * reach
        offset = self.point - self.x + rows(size) * self._direction(step, gradient)
        self.point = limited(offset, self.x, self.radius, self.settings.norm)

    def _direction(self, step: int, gradient: Tensor) -> Tensor:
        unit = gradient / rows(lengths(gradient, "l2").clamp_min(_TINY))
        if self.settings.optimizer == "sgd":
            return unit.sign() if self.settings.norm == "linf" else unit
        self.mean = _FADE * self.mean + (1 - _FADE) * unit
        if self.settings.optimizer == "adam":
            self.square = _SQUARE_FADE * self.square + (1 - _SQUARE_FADE) * unit**2
            size = (self.square / (1 - _SQUARE_FADE ** (step + 1))).sqrt()
        else:
            self.square = size = torch.maximum(_SQUARE_FADE * self.square, unit.abs())
        moved = self.mean / (1 - _FADE ** (step + 1)) / (size + 1e-8)
        return moved if self.settings.norm == "linf" else moved / math.sqrt(moved[0].numel())

    def _cosine(self, step: int) -> float:
        return (1 + math.cos(math.pi * step / self.settings.steps)) / 2
