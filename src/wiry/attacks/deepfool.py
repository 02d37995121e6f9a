"""DeepFool: the shortest way over the boundary, found by treating the network as linear again and
again.

As a component it is an l2 attack that keeps to its ball; `cross_boundary` is the search without
ball or box, from which distances to the boundary are measured.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Mode, Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.projections import Ball
from wiry.core.registry import registry

_TINY = 1e-12  # keeps a ratio with a zero gradient finite
_LEAST_STEP = 1e-6  # pixels: on the boundary itself the linear step is zero and would stay there


@registry("attack").register("deepfool")
@dataclasses.dataclass(frozen=True)
class DeepFool:
    """Steps to the nearest face of the linearised network until the class changes (l2).

    Use: to measure distances to the boundary; with a fixed budget `pgd` is stronger. Source:
    Moosavi-Dezfooli, Fawzi and Frossard 2016, algorithm 2. Differs: what is longer than `eps` is
    cut to it and pixels are clipped to [0, 1]; images that are wrong already stay as they are.
    """

    eps: float = 2.0  # radius of the ball, pixels in [0, 1]
    norm: Norm = "l2"
    steps: int = 50
    overshoot: float = 0.02  # share by which the sum of the steps is lengthened
    num_classes: int = 10  # nearest faces are looked for among this many likeliest classes
    mode: Mode = "eval"  # of the model's layers during the attack

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, allowed=("l2",))
        check_search(self.steps, self.overshoot, self.num_classes)

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """Return the images found, no further than `eps`; nothing is drawn."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        found, _, predicted = cross_boundary(
            model,
            x,
            steps=self.steps,
            overshoot=self.overshoot,
            num_classes=self.num_classes,
            mode=self.mode,
        )
        right = (predicted == y)[:, None, None, None]
        return Ball(x, self.norm, self.eps).project_(torch.where(right, found, x))


def check_search(steps: int, overshoot: float, num_classes: int) -> None:
    """Check the settings of the search.

    Raises:
        ValueError: naming the first that makes no sense.
    """
    check_counts(steps=steps)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if overshoot < 0:
        raise ValueError(f"overshoot must be at least 0, got {overshoot:g}")


def cross_boundary(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    num_classes: int = 10,
    mode: Mode = "eval",
) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, " n"], Int[Tensor, " n"]]:
    """Move each image out of its predicted class on a short way, outside [0, 1] if that is nearer.

    Source: Moosavi-Dezfooli et al. 2016, algorithm 2; the class is asked for after each step at the
    lengthened sum, as in their published code. Differs: no 1e-4 is added to each step; fooled
    images leave the batch.

    Returns:
        The images found (where the search ended, if it did not succeed), whether the class changed,
        and the class before.
    """
    found, x = x.detach().clone(), x.detach()
    with attacking(model, mode):
        with torch.no_grad():
            logits = model(x)
            order = logits.topk(min(num_classes, logits.shape[1]), dim=1).indices
        predicted = order[:, 0].clone()
        places, total = torch.arange(len(x), device=x.device), torch.zeros_like(x)
        for _ in range(steps):
            if len(places) == 0:
                break
            total = total + _nearest_face(model, found[places], order)
            found[places] = x[places] + (1 + overshoot) * total
            with torch.no_grad():
                going = model(found[places]).argmax(1) == order[:, 0]
            places, total, order = places[going], total[going], order[going]
    crossed = torch.ones(len(x), dtype=torch.bool, device=x.device)
    crossed[places] = False
    return found.detach(), crossed, predicted


def _nearest_face(model: nn.Module, point: Tensor, order: Tensor) -> Tensor:
    """Return the step to the nearest linearised boundary between the first class and the others."""
    logits = model(point.requires_grad_()).gather(1, order)
    gradients = torch.stack(
        [
            torch.autograd.grad(column.sum(), point, retain_graph=True)[0].flatten(1)
            for column in logits.unbind(1)
        ],
        dim=1,
    )
    values = logits.detach()
    apart = gradients[:, 1:] - gradients[:, :1]
    sizes = apart.norm(dim=2).clamp_min(_TINY)
    distances = (values[:, :1] - values[:, 1:]).abs() / sizes
    nearest = distances.argmin(1, keepdim=True)
    size = distances.gather(1, nearest).clamp_min(_LEAST_STEP) / sizes.gather(1, nearest)
    direction = apart.gather(1, nearest[:, :, None].expand(-1, 1, apart.shape[2])).squeeze(1)
    return (size * direction).view_as(point)
