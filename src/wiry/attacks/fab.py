"""FAB, the fast adaptive boundary attack: the nearest decision boundary, then back to the image.

It minimises the distance and needs no budget to do so; `eps` says what counts as found. As the
third attack of AutoAttack it runs towards each of the likeliest wrong classes.
"""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial, predict
from wiry.attacks.hyperplane import onto_hyperplane
from wiry.attacks.projections import Ball, images_of, lengths, rows_of
from wiry.attacks.targets import by_target, check_rank, wrong_classes
from wiry.core.draws import Draws
from wiry.core.registry import registry

_TINY = 1e-12


@registry("attack").register("fab")
@dataclasses.dataclass(frozen=True)
class FAB:
    """Step onto the linearised boundary to another class, biased to the image; shrink what fools.

    Source: Croce and Hein 2020 (FAB), Algorithm 1, and its targeted form in AutoAttack. Differs: an
    image leaves as soon as a point within `eps` fools, since AutoAttack asks for no more; the step
    onto the plane is found by Newton's method. Images that are misclassified when clean are
    returned unchanged. The model is always in evaluation mode.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1  # the first starts at the image, others at a random point near it
    targeted: bool = True  # towards one class after the other; else always the nearest boundary
    num_targets: int = 9  # the likeliest wrong classes, at most all of them
    target_rank: int | None = None  # of the wrong classes only this (0: the likeliest)
    bias: float = 0.1  # alpha_max: largest pull towards the image
    overshoot: float = 1.05  # eta: how far a step goes beyond the plane
    backward: float = 0.9  # beta: what is kept of the offset after a point that fools

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(steps=self.steps, restarts=self.restarts, num_targets=self.num_targets)
        check_rank(self.target_rank)
        if not (0 <= self.bias < 1 and self.overshoot >= 1 and 0 < self.backward < 1):
            raise ValueError(
                f"need 0 <= bias < 1, overshoot >= 1 and 0 < backward < 1, got {self.bias:g}, "
                f"{self.overshoot:g} and {self.backward:g}"
            )

    def parts(self, num_classes: int) -> tuple["FAB", ...]:
        """Return the searches towards one class each which, run in turn, are this attack."""
        return by_target(self, num_classes) if self.targeted else (self,)

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Return a fooling image within the ball where one was found, else the image itself."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        found = x.clone()
        with attacking(model, "eval"):
            with torch.no_grad():
                clean = model(x)
            standing = clean.argmax(1) == y
            for target in self._targets(clean, y):
                for restart in range(self.restarts):
                    start = Ball(x, self.norm, self.eps / 2).draw(generator) if restart else x
                    places = standing.nonzero().squeeze(1)
                    if len(places) == 0:
                        return found
                    points, fooled = self._run(
                        model, x[places], y[places], target[places], start[places]
                    )
                    found[places[fooled]] = points[fooled]
                    standing[places[fooled]] = False
        return found

    def _targets(self, clean: Tensor, y: Tensor) -> list[Tensor]:
        """Return the classes to go to, one an image; -1 stands for whichever is nearest."""
        if not self.targeted:
            return [torch.full_like(y, -1)]
        return wrong_classes(clean, y, num_targets=self.num_targets, target_rank=self.target_rank)

    def _run(
        self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run towards one class; images leave when they fool within the ball."""
        found, fooled = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        places, point = torch.arange(len(x), device=x.device), start
        for step in range(self.steps + 1):  # the last one only looks
            wrong = predict(model, point) != y
            won = wrong & (lengths(point - x, self.norm) <= self.eps)
            if bool(won.any()):
                found[places[won]], fooled[places[won]] = point[won], True
                places, point, x, y, target, wrong = (
                    value[~won] for value in (places, point, x, y, target, wrong)
                )
            if len(places) == 0 or step == self.steps:
                break
            # what fools, but too far away, goes back towards the image
            kept = torch.where(wrong, self.backward, 1.0).to(x).view(-1, 1, 1, 1)
            point = torch.lerp(x, point, kept)
            lead, gradient = self._look(model, point, y, target)
            point = self._move(point, x, lead, gradient)
        return found, fooled

    @torch.no_grad()
    def _move(self, point: Tensor, x: Tensor, lead: Tensor, gradient: Tensor) -> Tensor:
        """Return the biased step onto the plane where the target draws level."""
        flat, centre, normal = (rows_of(images, x) for images in (point, x, gradient))
        from_centre = lead + torch.linalg.vecdot(normal, centre - flat)
        # the target lags by `lead` < 0, so the linear form must gain -lead
        ways = onto_hyperplane(
            torch.cat([flat, centre]),
            torch.cat([normal, normal]),
            torch.cat([-lead, -from_centre]),
            self.norm,
        )
        (near, far), (length, other) = ways.chunk(2), lengths(ways, self.norm).chunk(2)
        pull = (length / (length + other).clamp_min(_TINY)).clamp_max(self.bias)[:, None]
        mixed = torch.add(flat, near, alpha=self.overshoot)
        mixed.lerp_(torch.add(centre, far, alpha=self.overshoot), pull)
        return images_of(mixed.clamp_(0, 1), x)

    def _look(
        self, model: nn.Module, point: Tensor, y: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the target's lead over the label and its gradient."""
        point = point.detach().requires_grad_()
        logits = model(point)
        if not self.targeted:
            return _nearest(logits, point, y, self.norm)
        rise = torch.zeros_like(logits).scatter_(1, target[:, None], 1).scatter_(1, y[:, None], -1)
        (gradient,) = torch.autograd.grad(logits, point, rise)
        return torch.linalg.vecdot(logits.detach(), rise), gradient


def _nearest(logits: Tensor, point: Tensor, y: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Return the lead, and its gradient, of the class whose linearised boundary is nearest."""
    dual = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]
    leads = logits - logits.gather(1, y[:, None])
    best = leads.new_full((len(y),), torch.inf)
    lead, gradient = torch.zeros_like(best), torch.zeros_like(point)
    for label in range(logits.shape[1]):
        (part,) = torch.autograd.grad(leads[:, label].sum(), point, retain_graph=True)
        distance = leads[:, label].detach().abs() / lengths(part, dual).clamp_min(_TINY)
        nearer = (distance < best) & (y != label)
        best = torch.where(nearer, distance, best)
        lead = torch.where(nearer, leads[:, label].detach(), lead)
        gradient = torch.where(nearer.view(-1, 1, 1, 1), part, gradient)
    return lead, gradient
