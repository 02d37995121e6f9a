"""FAB, the fast adaptive boundary attack: the nearest decision boundary, then back to the image.

It minimises the distance and needs no budget to do so; `eps` says what counts as found. As the
third attack of AutoAttack it runs towards each of the likeliest wrong classes.
"""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.hyperplane import onto_hyperplane
from wiry.attacks.projections import Ball, lengths
from wiry.core.draws import Draws
from wiry.core.registry import registry

_TINY = 1e-12


@registry("attack").register("fab")
@dataclasses.dataclass(frozen=True)
class FAB:
    """Step onto the linearised boundary to another class, biased to the image; shrink what fools.

    Source: Croce and Hein 2020 (FAB), Algorithm 1, and its targeted form in AutoAttack. Differs: an
    image leaves as soon as a point within `eps` fools, since AutoAttack asks for no more; one
    forward pass tells whether the last point fools and gives the next step, where the original
    takes two; the step onto the plane is found by Newton's method. Images that are misclassified
    when clean are returned unchanged. The model is always in evaluation mode.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1  # the first starts at the image, others at a random point near it
    targeted: bool = True  # towards one class after the other; else always the nearest boundary
    num_targets: int = 9  # the likeliest wrong classes, at most all of them
    bias: float = 0.1  # alpha_max: largest pull towards the image
    overshoot: float = 1.05  # eta: how far a step goes beyond the plane
    backward: float = 0.9  # beta: what is kept of the offset after a point that fools

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(steps=self.steps, restarts=self.restarts, num_targets=self.num_targets)
        if not (0 <= self.bias < 1 and self.overshoot >= 1 and 0 < self.backward < 1):
            raise ValueError(
                f"need 0 <= bias < 1, overshoot >= 1 and 0 < backward < 1, got {self.bias:g}, "
                f"{self.overshoot:g} and {self.backward:g}"
            )

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
        others = clean.scatter(1, y[:, None], -torch.inf)
        count = min(self.num_targets, clean.shape[1] - 1)
        return list(others.topk(count, dim=1).indices.T)

    def _run(
        self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run towards one class; images leave when they fool within the ball."""
        found, fooled = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        places, point = torch.arange(len(x), device=x.device), start.clone()
        for step in range(self.steps + 1):  # the last one only looks
            lead, gradient, wrong = self._look(model, point, y, target, step < self.steps)
            won = wrong & (lengths(point - x, self.norm) <= self.eps)
            if bool(won.any()):
                found[places[won]], fooled[places[won]] = point[won], True
                places, point, x, y, target, lead, wrong = (
                    value[~won] for value in (places, point, x, y, target, lead, wrong)
                )
                gradient = gradient[~won]
            if len(places) == 0 or step == self.steps:
                break
            if bool(wrong.any()):  # fooled, but too far: back towards the image, look again there
                back = (x + (point - x) * self.backward)[wrong]
                point[wrong] = back
                lead[wrong], gradient[wrong], _ = self._look(
                    model, back, y[wrong], target[wrong], True
                )
            point = self._move(point, x, lead, gradient)
        return found, fooled

    def _move(self, point: Tensor, x: Tensor, lead: Tensor, gradient: Tensor) -> Tensor:
        """Return the biased step onto the plane where the target draws level."""
        flat, centre, normal = point.flatten(1), x.flatten(1), gradient.flatten(1)
        from_centre = lead + (normal * (centre - flat)).sum(1)
        # the target lags by `lead` < 0, so the linear form must gain -lead
        ways = onto_hyperplane(
            torch.cat([flat, centre]),
            torch.cat([normal, normal]),
            torch.cat([-lead, -from_centre]),
            self.norm,
        )
        near, far = ways.chunk(2)
        shape = point.shape
        length, other = lengths(near.view(shape), self.norm), lengths(far.view(shape), self.norm)
        pull = (length / (length + other).clamp_min(_TINY)).clamp_max(self.bias)[:, None]
        mixed = (flat + self.overshoot * near) * (1 - pull) + (centre + self.overshoot * far) * pull
        return mixed.clamp_(0, 1).view(shape)

    def _look(
        self, model: nn.Module, point: Tensor, y: Tensor, target: Tensor, with_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the target's lead over the label, its gradient, and which images fool."""
        point = point.detach().requires_grad_(with_gradient)
        logits = model(point)
        wrong = logits.argmax(1) != y
        if not with_gradient:
            return logits.new_zeros(len(y)), point.detach(), wrong
        if not self.targeted:
            return *_nearest(logits, point, y, self.norm), wrong
        lead = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
        (gradient,) = torch.autograd.grad(lead.sum(), point)
        return lead.detach(), gradient, wrong


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
