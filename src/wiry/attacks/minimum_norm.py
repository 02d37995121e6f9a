"""What searches for the nearest misclassified image share: their norms, balls whose radius is one
number an image, and the nearest point found so far.

The searches themselves are `fmn.py` and `ddn.py`. Distances found this way are upper bounds of the
true ones, however long a search runs.
"""

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wiry.attacks.base import Forward
from wiry.attacks.hyperplane import onto_hyperplane
from wiry.attacks.projections import lengths, project_l1

Distance = Literal["linf", "l2", "l1", "l0"]
"""Norm of a distance; l0 counts the entries of the image that change, not its pixels."""

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf", "l0": "linf"}
"""Norm of the gradient that says how fast a step of length 1 can change a loss."""

_TINY = 1e-12
_SHORT = 1e-4  # of a gap, left to rounding


@dataclasses.dataclass(frozen=True, eq=False)
class MinimumNorm:
    """The nearest misclassified image that was found for each image.

    Attributes:
        distance: 0 where the image itself is misclassified, infinite where nothing was found.
        adversarial: what was found, in [0, 1]; else the image itself.
    """

    distance: Float[Tensor, " n"]
    adversarial: Float[Tensor, "n c h w"]

    @property
    def found(self) -> Bool[Tensor, " n"]:
        """Whether there is a misclassified image at `distance`."""
        return self.distance.isfinite()

    def nearer(self, other: "MinimumNorm") -> "MinimumNorm":
        """Return the nearer of two for each image; the first where they are equally far."""
        better = other.distance < self.distance
        return MinimumNorm(
            torch.where(better, other.distance, self.distance),
            torch.where(rows(better), other.adversarial, self.adversarial),
        )


def distances(offset: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """Return the length of each image's offset, l0 included."""
    if norm == "l0":
        return (offset != 0).flatten(1).sum(1).to(offset.dtype)
    return lengths(offset, norm)


def limited(
    offset: Float[Tensor, "n c h w"],
    x: Float[Tensor, "n c h w"],
    radius: Float[Tensor, " n"],
    norm: str,
) -> Float[Tensor, "n c h w"]:
    """Return points in [0, 1] near `x + offset` and no further from `x` than each image's radius.

    The nearest such point in linf and l1; in l2 and l0 first the ball, then the box.
    """
    if norm == "l1":
        offset = project_l1(offset, x, radius[:, None])
    elif norm == "linf":
        offset = offset.clamp(-rows(radius), rows(radius))
    elif norm == "l2":
        offset = offset * rows((radius / lengths(offset, "l2").clamp_min(_TINY)).clamp_max(1))
    else:
        offset = _largest(offset, radius)
    return (x + offset).clamp_(0, 1)


def halved(
    model: Forward,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    found: Float[Tensor, "n c h w"],
    steps: int,
) -> Float[Tensor, "n c h w"]:
    """Return misclassified points between images and what was found, by halving the way.

    Images are expected to be right and `found` to be misclassified; what comes back is, too.
    """
    with torch.no_grad():
        low, high = x.new_zeros(len(x)), x.new_ones(len(x))
        best = found
        for _ in range(steps):
            middle = (low + high) / 2
            point = (x + rows(middle) * (found - x)).clamp_(0, 1)
            wrong = model(point).argmax(1) != y
            best = torch.where(rows(wrong), point, best)
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return best


def nearest_classes(
    model: Forward,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    norm: str,
    count: int,
) -> list[Int[Tensor, " n"]]:
    """Return the classes whose linearised boundaries are nearest inside the box, the nearest first.

    One backward pass a class, once; l0 takes the order of l1. Boundaries out of the box's reach
    come last.

    Args:
        count: of classes, at most all but the label.
    """
    norm = "l1" if norm == "l0" else norm
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        logits = model(point)
        leads, far = logits - logits.gather(1, y[:, None]), []
        for lead in leads.unbind(1):
            normal = torch.autograd.grad(lead.sum(), point, retain_graph=True)[0].flatten(1)
            gap = -lead.detach()
            way = onto_hyperplane(x.flatten(1), normal, gap, norm)
            is_reached = (normal * way).sum(1) >= (1 - _SHORT) * gap
            far.append(lengths(way.view_as(x), norm) + widest(x, norm) * ~is_reached)
    order = torch.stack(far, 1).scatter_(1, y[:, None], torch.inf).argsort(dim=1, stable=True)
    return list(order[:, : min(count, logits.shape[1] - 1)].T)


def widest(x: Float[Tensor, "n c h w"], norm: str) -> float:
    """Return the radius of a ball that holds the whole box."""
    size = x[0].numel()
    return float({"linf": 1, "l2": math.sqrt(size)}.get(norm, size))


def rows(values: Tensor) -> Tensor:
    """Return one value an image in the shape that goes with images."""
    return values.view(-1, 1, 1, 1)


def _largest(offset: Tensor, count: Tensor) -> Tensor:
    """Keep each image's `count` (rounded down) largest entries, the first of equal ones."""
    flat = offset.flatten(1)
    order = flat.abs().argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(flat.shape[1], device=flat.device).expand_as(flat)
    kept = torch.zeros_like(flat, dtype=torch.bool).scatter_(
        1, order, ranks < count.floor()[:, None]
    )
    return (flat * kept).view_as(offset)
