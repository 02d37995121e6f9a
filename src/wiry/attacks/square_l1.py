"""The Square Attack's moves in l1: the grid of bumps it begins with, and one proposal.

As in l2, a proposal empties one window and puts what it had, and a bump, into another; bumps are
more pointed, and points come back into ball and box by the exact projection. Which proposals are
kept is for `square.py`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.attacks.projections import Ball, lengths
from wiry.core.draws import Draws

_TILES = 5  # the search starts from a grid of about 5 x 5 bumps
_TINY = 1e-12


def start_l1(x: Float[Tensor, "n c h w"], eps: float, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Return images with a grid of bumps of length 1 a channel, brought into the ball.

    Source: Croce and Hein 2021 ("Mind the box"), section 5, and the published code.
    """
    _, c, h, w = x.shape
    side = max(min(h, w) // _TILES, 1)
    point = x.clone()
    for top in range(0, h - side + 1, side):
        for left in range(0, w - side + 1, side):
            signs = draws.signs(c, 1, 1).to(x)
            point[:, :, top : top + side, left : left + side] += bumps_l1(side, x, draws) * signs
    return Ball(x, "l1", eps).project_(point)


def propose_l1(
    x: Float[Tensor, "n c h w"],
    best: Float[Tensor, "n c h w"],
    *,
    eps: float,
    side: int,
    draws: Draws,
) -> Float[Tensor, "n c h w"]:
    """Return points to try next to the best ones.

    Source: Andriushchenko et al. 2020, Algorithm 3, carried over to l1 as in the code of Croce and
    Hein 2021: the window gets what the two windows had and what the ball has left, times the
    number of channels, and the projection takes back what is too much. Differs: every image has
    its own windows and bumps.

    Args:
        side: of the windows; the next odd number of at least 3 that fits is taken.
    """
    _, c, h, w = x.shape
    side = min(max(side | 1, 3), h, w)
    drawn, emptied = _window(x, side, draws), _window(x, side, draws)
    bumps = bumps_l1(side, x, draws) * draws.signs(c, 1, 1).to(x)
    offset = best - x
    unused = (eps - lengths(offset, "l1")).clamp_(min=0).view(-1, 1, 1, 1)
    before, old = offset.abs().sum((2, 3), keepdim=True), offset[drawn]
    offset[drawn] = offset[emptied] = 0
    budget = c * (before - offset.abs().sum((2, 3), keepdim=True)) + unused
    offset[drawn] = _unit_per_channel(_unit_per_channel(old) + bumps) * budget
    return Ball(x, "l1", eps).project_(offset.add_(x))


def bumps_l1(
    side: int, x: Float[Tensor, "n c h w"], draws: Draws
) -> Float[Tensor, "n 1 side side"]:
    """Return a mound and its negative side by side for each image, half of them turned."""
    upper = side // 2
    pair = torch.cat([mound_l1(upper, side, x), -mound_l1(side - upper, side, x)])
    pair = pair / pair.abs().sum().clamp_min(_TINY)
    return torch.where(draws.uniform(1, 1) > 0.5, pair.T, pair)[:, None]


def mound_l1(height: int, width: int, like: Tensor) -> Float[Tensor, "height width"]:
    """Return a mound of concentric rectangles of length 1 in l1, steeper than that of l2."""
    rows = torch.arange(height, device=like.device)[:, None]
    columns = torch.arange(width, device=like.device)[None, :]
    distance = (rows - height // 2).abs().maximum((columns - width // 2).abs())
    mound = like.new_zeros(height, width)
    for ring in range(max(height // 2, width // 2) + 1):
        mound += (distance <= ring) / (ring + 1) ** 4
    return mound / mound.sum().clamp_min(_TINY)


def _window(x: Tensor, side: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a square for each image, as an index of (image, channel, row, column)."""
    n, c, h, w = x.shape
    drawn, reach = draws.uniform(2), torch.arange(side, device=x.device)
    top, left = (drawn * drawn.new_tensor([h - side + 1, w - side + 1])).long().unbind(1)
    return (
        torch.arange(n, device=x.device)[:, None, None, None],
        torch.arange(c, device=x.device)[None, :, None, None],
        (top[:, None] + reach)[:, None, :, None],
        (left[:, None] + reach)[:, None, None, :],
    )


def _unit_per_channel(offset: Tensor) -> Tensor:
    return offset / (offset.abs().sum((2, 3), keepdim=True) + _TINY)
