"""FMN, the fast minimum-norm attack, in four norms: how far the nearest misclassified image is.

`fast_minimum_norm` gives distances and images, `FMN` is an attack with a budget that makes the same
search. One search from one start is in `fmn_search.py`; which settings suit a network is tried out
by `wiry.evaluation.tuned`.
"""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import (
    Norm,
    attacking,
    check_ball,
    check_counts,
    check_step_size,
    is_trivial,
    predict,
)
from wiry.attacks.fmn_search import FMNLoss, Optimizer, Scheduler, Search, Settings
from wiry.attacks.minimum_norm import Distance, MinimumNorm, nearest_classes, rows
from wiry.core.draws import Draws
from wiry.core.registry import registry

STEP_SIZES = {"linf": 1.0, "l2": 1.0, "l1": 0.3, "l0": 1.0}
"""First steps as shares of the radius, tried out on networks for MNIST and CIFAR-10."""


@registry("attack").register("fmn")
@dataclasses.dataclass(frozen=True)
class FMN:
    """Search for the nearest misclassified image, and give it if it is within the ball.

    Use: for distances by image, see the measure `security-curve`; with one budget `autoattack`
    says more. Source and differences: see `fast_minimum_norm`. An image leaves at its first
    misclassified point within `eps`; images that are misclassified when clean are returned
    unchanged. The model is always in evaluation mode; nothing is drawn.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    steps: int = 100
    num_targets: int = 3  # classes that are gone to, one search each
    targeted: bool = True  # towards the linearly nearest classes; else, once, to whichever leads
    loss: FMNLoss = "logit-difference"
    optimizer: Optimizer = "sgd"
    scheduler: Scheduler = "cosine"  # of the step size
    step_size: float | None = None  # of the first step, share of the radius; None: `STEP_SIZES`

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(steps=self.steps, num_targets=self.num_targets)
        check_step_size(self.step_size)

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
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found = fast_minimum_norm(model, x, y, within=fields.pop("eps"), **fields)
        return torch.where(rows(found.distance <= self.eps), found.adversarial, x)


def fast_minimum_norm(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Distance,
    steps: int = 100,
    num_targets: int = 3,
    targeted: bool = True,
    loss: FMNLoss = "logit-difference",
    optimizer: Optimizer = "sgd",
    scheduler: Scheduler = "cosine",
    step_size: float | None = None,
    within: float = 0.0,
) -> MinimumNorm:
    """Search for the nearest misclassified image of each image.

    Source: Pintor et al. 2021 (FMN), Algorithm 1; losses, optimisers and schedules to choose from
    as in Floris et al. 2023 (HO-FMN). Differs: a search goes to one class, the one whose linearised
    boundary is nearest inside the box (as in FAB), where the paper climbs to whichever class leads;
    further searches go to the next ones. Entries at their bound count for no direction; steps are
    shares of the radius, in linf along signs, so that one default fits images of any size; until
    the network is fooled for the first time the radius never falls; at the end, but in l0, the way
    back to the image is halved a few times.

    Args:
        steps: gradient steps of one search.
        num_targets: classes gone to, the linearly nearest first, at most all others.
        targeted: if not, there is one search, towards whichever class leads.
        loss: what is climbed; "ce" has no exact value on the boundary, so its first radius is poor.
        step_size: of the first step, share of the radius; None: `STEP_SIZES`.
        within: an image is done as soon as it is fooled within this distance; 0: never.

    Returns:
        Distances (upper bounds, 0 for misclassified images, infinite where no search succeeded) and
        the images found, in the model's evaluation mode.
    """
    check_counts(steps=steps, num_targets=num_targets)
    check_step_size(step_size)
    size = STEP_SIZES[norm] if step_size is None else step_size
    settings = Settings(norm, steps, size, loss, optimizer, scheduler, within)
    x = x.detach()
    found = MinimumNorm(x.new_zeros(len(x)), x.clone())
    if len(x) == 0:
        return found
    with attacking(model, "eval"):
        right = (predict(model, x) == y).nonzero().squeeze(1)
        found.distance[right] = torch.inf
        targets: list[Tensor | None] = [None]
        if targeted and len(right):
            targets = [*nearest_classes(model, x[right], y[right], norm, num_targets)]
        for target in targets:
            going = found.distance[right] > within
            places = right[going]
            if len(places) == 0:
                break
            run = Search(
                model, settings, x[places], y[places], None if target is None else target[going]
            ).run()
            nearer = run.distance < found.distance[places]
            found.distance[places[nearer]] = run.distance[nearer]
            found.adversarial[places[nearer]] = run.adversarial[nearer]
    return found
