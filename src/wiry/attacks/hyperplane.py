"""The shortest way onto a hyperplane inside the pixel box, per image: the heart of FAB.

Source: Croce and Hein 2020 (FAB), section 3.1. Along the shortest way every pixel moves towards the
plane until it meets its bound. How far it goes is one number an image, the root of a piecewise
linear and concave function; Newton's steps from the left find it, where the original sorts pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-12
_ROUNDS = 40  # Newton's steps pass at least one corner each; a handful is what they take


def onto_hyperplane(
    point: Float[Tensor, "n d"],
    normal: Float[Tensor, "n d"],
    gap: Float[Tensor, " n"],
    norm: str,
) -> Float[Tensor, "n d"]:
    """Return the shortest `z` in `norm` with <normal, z> = gap and point + z in [0, 1].

    Where the box does not reach the plane, every pixel goes to its bound.

    Args:
        gap: what the linear form is to gain.
        norm: "linf", "l2" or "l1".
    """
    direction = (normal * gap.sign()[:, None]).sign()
    room = torch.where(direction > 0, 1 - point, point).clamp_min_(0)
    slope, wanted = normal.abs(), gap.abs()
    size = _l1(slope, room, wanted) if norm == "l1" else _newton(slope, room, wanted, norm)
    return size * direction


def _newton(slope: Tensor, room: Tensor, wanted: Tensor, norm: str) -> Tensor:
    """Return the moves min(t, room) or min(t * slope, room) whose gain is `wanted`."""
    speed = torch.ones_like(slope) if norm == "linf" else slope
    t = wanted / (slope * speed).sum(1).clamp_min(_TINY)
    for _ in range(_ROUNDS):
        moves = torch.minimum(t[:, None] * speed, room)
        missing = wanted - (slope * moves).sum(1)
        free = (slope * speed * (moves < room)).sum(1)
        going = (missing > 1e-6 * wanted) & (free > _TINY)
        if not bool(going.any()):
            break
        t = torch.where(going, t + missing / free.clamp_min(_TINY), t)
    out_of_reach = (slope * room).sum(1) < wanted
    return torch.where(out_of_reach[:, None], room, torch.minimum(t[:, None] * speed, room))


def _l1(slope: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return the moves that use up the steepest pixels first."""
    order = slope.argsort(dim=1, descending=True, stable=True)
    steep, free = slope.gather(1, order), room.gather(1, order)
    before = (steep * free).cumsum(1) - steep * free
    moves = ((wanted[:, None] - before) / steep.clamp_min(_TINY)).clamp_min(0).minimum(free)
    return torch.zeros_like(room).scatter_(1, order, moves)
