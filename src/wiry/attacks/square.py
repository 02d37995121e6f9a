"""The Square Attack: random search with squares, no gradient. For evaluation.

It finds what gradient attacks miss when a model hides its gradients; logits are all that it sees of
the model. The l2 form changes bumps in place of flat squares.
"""

import dataclasses
import itertools
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.projections import Ball, lengths
from wiry.attacks.random_search import Proposal, climb
from wiry.attacks.square_l1 import propose_l1, start_l1
from wiry.core.draws import Draws, as_draws
from wiry.core.registry import registry

_TINY = 1e-12
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000, in the paper
_BITS, _MASK = 40, (1 << 24) - 1  # the upper 24 bits of a draw say where a square lies
_TILES = 5  # the l2 search starts from a grid of about 5 x 5 bumps


@registry("attack").register("square")
@dataclasses.dataclass(frozen=True)
class Square:
    """Change one random square at a time and keep the change if the margin shrinks.

    Source: Andriushchenko et al. 2020, Algorithms 1-3, with the schedule of its section 5. Differs:
    squares are never larger than the image; images that are misclassified when clean are returned
    unchanged. The model is always in evaluation mode.
    """

    eps: float = 8 / 255  # radius of the ball, pixels in [0, 1]
    norm: Norm = "linf"
    num_queries: int = 5000
    p_init: float = 0.8  # share of the pixels in the first squares

    draws_per_image: ClassVar[bool] = True
    uses_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_counts(num_queries=self.num_queries)
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init must be above 0 and at most 1, got {self.p_init}")

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Return the images with the largest margin for a wrong class."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        found, draws = x.clone(), as_draws(generator, x)
        with attacking(model, "eval"), torch.no_grad():
            places = (model(x).argmax(1) == y).nonzero().squeeze(1)
            if len(places) == 0:
                return found
            x, y, draws = x[places], y[places], draws.select(places)
            start = self._start(x, draws)
            propose = {"linf": self._linf, "l2": self._l2, "l1": self._l1}[self.norm]
            found[places] = climb(
                model,
                x,
                y,
                start,
                draws,
                stages=self._stages(*x.shape[2:]),
                propose=propose,
                num_draws=x.shape[1] + (2 if self.norm == "linf" else 5),
                follow=self.norm == "linf",
            )
        return found

    def _start(self, x: Tensor, draws: Draws) -> Tensor:
        if self.norm == "l1":
            return start_l1(x, self.eps, draws)
        if self.norm == "l2":
            return self._tiles(x, draws)
        stripes = draws.signs(x.shape[1], 1, x.shape[3]).to(x)
        return (x + self.eps * stripes).clamp_(0, 1)

    def _stages(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return runs of queries whose squares have one side, with their lengths."""
        sides = [self.side(query, height, width) for query in range(1, self.num_queries)]
        return [(side, len(list(run))) for side, run in itertools.groupby(sides)]

    def _linf(self, x: Tensor, best: Tensor, rows: Tensor, side: int, draws: Draws) -> Proposal:
        """Fill one square with random signs, one a channel."""
        _, c, h, w = x.shape
        _, by_channel, by_row, by_column = x.stride()
        bits, reach = draws.integers(2 + c), torch.arange(max(side, c), device=x.device)
        top = (bits[:, 0] >> _BITS & _MASK) * (h - side + 1) >> (64 - _BITS)
        left = (bits[:, 1] >> _BITS & _MASK) * (w - side + 1) >> (64 - _BITS)
        square = (reach[:side, None] * by_row + reach[:side] * by_column).view(-1, 1)
        square = square + reach[:c] * by_channel  # places in memory, from the corner's
        inside = (top * by_row + left * by_column)[:, None, None] + square
        each = torch.arange(len(rows), device=x.device)
        point, size = best[rows], c * h * w
        values = _memory(x)[inside + (rows * size)[:, None, None]]
        values += torch.where(bits[:, None, 2:] < 0, self.eps, -self.eps)
        _memory(point)[inside + (each * size)[:, None, None]] = values.clamp_(0, 1)
        return Proposal(point, (top, left))

    def side(self, query: int, height: int, width: int) -> int:
        """Return the side of the square at a query, in pixels."""
        paper_query = query * 10_000 // self.num_queries
        share = self.p_init / 2 ** sum(paper_query > bound for bound in _HALVINGS)
        return min(max(round((share * height * width) ** 0.5), 1), height, width)

    def _tiles(self, x: Tensor, draws: Draws) -> Tensor:
        _, c, h, w = x.shape
        side = max(min(h, w) // _TILES, 1)
        offset = torch.zeros_like(x)
        for top in range(0, h - side + 1, side):
            for left in range(0, w - side + 1, side):
                bumps = _bumps(side, x, draws)
                signs = draws.signs(c, 1, 1).to(x)
                offset[:, :, top : top + side, left : left + side] = bumps * signs
        return self._onto_sphere(x, offset)

    def _l2(self, x: Tensor, best: Tensor, rows: Tensor, side: int, draws: Draws) -> Proposal:
        """Empty one square and put what it had, and a bump, into another."""
        x, best = x[rows], best[rows]
        _, c, h, w = x.shape
        side = min(max(side | 1, 3), h, w)  # odd, at least 3
        drawn = _Window(_corners(h - side, w - side, draws), side, c)
        emptied = _Window(_corners(h - side, w - side, draws), side, c)
        bumps = _bumps(side, x, draws)
        signs = draws.signs(c, 1, 1).to(x)
        offset = best - x
        inside = torch.zeros_like(offset)
        inside[drawn.index] = inside[emptied.index] = 1
        unused = (self.eps**2 - lengths(offset, "l2").square()).clamp_(min=0).view(-1, 1, 1, 1)
        budget = (offset * inside).square().sum((2, 3), keepdim=True) + unused / c
        old = offset[drawn.index]
        new = _unit_per_channel(old) + bumps * signs
        offset[emptied.index] = 0
        offset[drawn.index] = _unit_per_channel(new) * budget.sqrt()
        return Proposal(self._onto_sphere(x, offset))

    def _onto_sphere(self, x: Tensor, offset: Tensor) -> Tensor:
        scale = self.eps / lengths(offset, "l2").clamp_min(_TINY)
        return Ball(x, "l2", self.eps).project_(x + offset * scale.view(-1, 1, 1, 1))

    def _l1(self, x: Tensor, best: Tensor, rows: Tensor, side: int, draws: Draws) -> Proposal:
        return Proposal(propose_l1(x[rows], best[rows], eps=self.eps, side=side, draws=draws))


class _Window:
    """One square per image, at its own place, as an index of (image, channel, row, column)."""

    def __init__(self, corners: Tensor, side: int, channels: int) -> None:
        device, reach = corners.device, torch.arange(side, device=corners.device)
        self.index = (
            torch.arange(len(corners), device=device)[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            (corners[:, :1] + reach)[:, None, :, None],
            (corners[:, 1:] + reach)[:, None, None, :],
        )


def _memory(images: Tensor) -> Tensor:
    """Return a view of the numbers one after the other, whichever dimension is the last."""
    return images.as_strided((images.numel(),), (1,), images.storage_offset())


def bump(height: int, width: int, like: Tensor) -> Float[Tensor, "height width"]:
    """Return a mound of concentric rectangles of length 1 in l2.

    Source: Andriushchenko et al. 2020, eq. 2 of section 3.4 (the factor eta).
    """
    mound = like.new_zeros(height, width)
    rows = torch.arange(height, device=like.device)[:, None]
    columns = torch.arange(width, device=like.device)[None, :]
    distance = (rows - height // 2).abs().maximum((columns - width // 2).abs())
    for ring in range(max(height // 2, width // 2) + 1):
        mound += (distance <= ring) / (ring + 1) ** 2
    return mound / mound.norm().clamp_min(_TINY)


def _bumps(side: int, x: Tensor, draws: Draws) -> Tensor:
    """Return (n, 1, side, side): a mound and its negative side by side, half of them turned."""
    upper = side // 2
    pair = torch.cat([bump(upper, side, x), -bump(side - upper, side, x)])
    pair = pair / pair.norm().clamp_min(_TINY)
    return torch.where(draws.uniform(1, 1) > 0.5, pair.T, pair)[:, None]


def _unit_per_channel(offset: Tensor) -> Tensor:
    return offset / (torch.linalg.vector_norm(offset, dim=(2, 3), keepdim=True) + _TINY)


def _corners(down: int, right: int, draws: Draws) -> Tensor:
    """Return (n, 2): the upper left corner of a square per image, each place alike."""
    drawn = draws.uniform(2)
    return (drawn * drawn.new_tensor([down + 1, right + 1])).long()
