"""The shortest way onto a hyperplane inside the pixel box, per image: the heart of FAB.

Source: Croce and Hein 2020 (FAB), section 3.1. Along the shortest way every pixel moves towards the
plane until it meets its bound. How far it goes is one number an image, the root of a piecewise
linear and concave function; Newton's steps from the left find it, where the original sorts pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-12
_TOLERANCE = 1e-6  # of what the linear form is to gain
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
    slope, wanted = normal.abs(), gap.abs()
    direction = normal.sign().mul_(gap.sign()[:, None])
    room = (0.5 - point).mul_(direction).add_(0.5)  # 1 - point upwards, point downwards
    size = _l1(slope, room, wanted) if norm == "l1" else _newton(slope, room, wanted, norm)
    return size.mul_(direction)


def _newton(slope: Tensor, room: Tensor, wanted: Tensor, norm: str) -> Tensor:
    """Return the moves min(t, room) or min(t * slope, room) whose gain is `wanted`."""
    gain = slope if norm == "linf" else slope.square()  # of a pixel that moves freely, for t = 1
    t = wanted / gain.sum(1).clamp_min_(_TINY)
    moves, free = torch.empty_like(room), torch.empty_like(room)
    for _ in range(_ROUNDS):
        _moved(t, slope, room, norm, out=moves)
        missing = wanted - torch.linalg.vecdot(slope, moves)
        going = missing > _TOLERANCE * wanted
        if not bool(going.any()):
            break
        rate = torch.linalg.vecdot(gain, torch.lt(moves, room, out=free))
        if not bool((going & (rate > _TINY)).any()):  # the others are all the way at their bounds
            break
        t.add_(missing / rate.clamp_min_(_TINY))
    return moves


def _moved(t: Tensor, slope: Tensor, room: Tensor, norm: str, *, out: Tensor) -> Tensor:
    if norm == "linf":
        return torch.minimum(room, t[:, None], out=out)
    return torch.minimum(room, torch.mul(slope, t[:, None], out=out), out=out)


def _l1(slope: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return the moves that use up the steepest pixels first."""
    order = slope.argsort(dim=1, descending=True, stable=True)
    steep, free = slope.gather(1, order), room.gather(1, order)
    before = (steep * free).cumsum(1) - steep * free
    moves = ((wanted[:, None] - before) / steep.clamp_min(_TINY)).clamp_min(0).minimum(free)
    return torch.zeros_like(room).scatter_(1, order, moves)
