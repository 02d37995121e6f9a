"""DDN, which decouples direction and norm: gradient steps on a sphere that shrinks where the
network is fooled and grows where it is not (l2).

`decoupled_direction_norm` is the search, `DDN` an attack with a budget that makes it. `fmn.py` does
the same with a ball and in four norms, and comes at least as near.
"""

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial, predict
from wiry.attacks.losses import cross_entropy
from wiry.attacks.minimum_norm import MinimumNorm, rows, widest
from wiry.attacks.projections import lengths
from wiry.core.draws import Draws
from wiry.core.registry import registry

_FIRST_STEP, _LAST_STEP = 1.0, 0.01  # pixels
_TINY = 1e-12


@registry("attack").register("ddn")
@dataclasses.dataclass(frozen=True)
class DDN:
    """Search for the nearest misclassified image in l2, and give it if it is within the ball.

    Source and differences: see `decoupled_direction_norm`; it starts on the ball's sphere. Images
    that are misclassified when clean are returned unchanged. The model is always in evaluation
    mode; nothing is drawn.
    """

    eps: float = 0.5  # radius of the ball, pixels in [0, 1]
    norm: Norm = "l2"
    steps: int = 300
    shrink: float = 0.05  # gamma: share by which the radius changes a step

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, allowed=("l2",))
        check_ddn(self.steps, self.shrink)

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
        found = decoupled_direction_norm(
            model, x, y, steps=self.steps, shrink=self.shrink, radius=self.eps
        )
        return torch.where(rows(found.distance <= self.eps), found.adversarial, x)


def check_ddn(steps: int, shrink: float) -> None:
    """Check the settings of the search.

    Raises:
        ValueError: naming the first that makes no sense.
    """
    check_counts(steps=steps)
    if not 0 < shrink < 1:
        raise ValueError(f"shrink must be above 0 and below 1, got {shrink:g}")


def decoupled_direction_norm(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    steps: int = 300,
    shrink: float = 0.05,
    radius: float = 1.0,
) -> MinimumNorm:
    """Search for the nearest misclassified image of each image in l2.

    Source: Rony et al. 2019 (DDN), Algorithm 1, on the cross-entropy. Differs: pixels are not
    rounded to 256 levels; where the gradient is zero, no random direction takes its place; one look
    more after the last step.

    Args:
        shrink: gamma, share by which the radius changes a step.
        radius: of the first sphere, pixels in [0, 1].
    """
    check_ddn(steps, shrink)
    x = x.detach()
    found = MinimumNorm(x.new_zeros(len(x)), x.clone())
    if len(x) == 0:
        return found
    with attacking(model, "eval"):
        right = (predict(model, x) == y).nonzero().squeeze(1)
        if len(right):
            run = _search(model, x[right], y[right], steps, shrink, radius)
            found.distance[right], found.adversarial[right] = run.distance, run.adversarial
    return found


def _search(
    model: nn.Module, x: Tensor, y: Tensor, steps: int, shrink: float, radius: float
) -> MinimumNorm:
    """Search from images that are right."""
    point, best, best_distance = x, x.clone(), x.new_full((len(x),), torch.inf)
    reach = x.new_full((len(x),), radius)  # epsilon
    for step in range(steps + 1):
        point = point.detach().requires_grad_()
        logits = model(point)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, y).sum(), point)
        point, wrong = point.detach(), logits.argmax(1) != y
        distance = lengths(point - x, "l2")
        better = wrong & (distance < best_distance)
        best = torch.where(rows(better), point, best)
        best_distance = torch.where(better, distance, best_distance)
        reach = reach * torch.where(wrong, 1 - shrink, 1 + shrink)
        reach = reach.clamp_max(widest(x, "l2"))
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        size = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * cosine
        moved = point - x + size * gradient / rows(lengths(gradient, "l2").clamp_min(_TINY))
        on_sphere = moved * rows(reach / lengths(moved, "l2").clamp_min(_TINY))
        point = (x + on_sphere).clamp(0, 1)
    return MinimumNorm(best_distance, best)
