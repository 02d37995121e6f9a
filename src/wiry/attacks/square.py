"""The Square Attack: random search with squares, no gradient. For evaluation.

It finds what gradient attacks miss when a model hides its gradients; logits are all that it sees of
the model. The l2 form changes bumps in place of flat squares.
"""

import dataclasses
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.losses import margin
from wiry.attacks.projections import Ball, lengths
from wiry.core.draws import Draws, as_draws
from wiry.core.registry import registry

_TINY = 1e-12
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000, in the paper
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
    norm: Norm = "linf"  # l1 is refused
    num_queries: int = 5000
    p_init: float = 0.8  # share of the pixels in the first squares

    draws_per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, allowed=("linf", "l2"))
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
        search = self._search_linf if self.norm == "linf" else self._search_l2
        found, draws = x.clone(), as_draws(generator, x)
        with attacking(model, "eval"), torch.no_grad():
            places = (model(x).argmax(1) == y).nonzero().squeeze(1)
            if len(places) > 0:
                found[places] = search(model, x[places], y[places], draws.select(places))
        return found

    def _search_linf(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """Write one square of random signs at a time; take it back where it does not help."""
        _, c, h, w = x.shape
        best = (x + self.eps * draws.signs(c, 1, w).to(x)).clamp_(0, 1)
        loss = margin(model(best), y)
        going = _Going(best)
        for query in range(1, self.num_queries):
            if (fooled := loss > 0).any():  # a wrong class is strictly ahead
                best, loss, x, y, draws = going.leave(fooled, best, loss, x, y, draws)
            if len(y) == 0:
                return going.found
            side = self.side(query, h, w)
            window = _Window(_corners(h - side, w - side, draws), side, c)
            signs = draws.signs(c, 1, 1).to(x)
            before = best[window.index]
            best[window.index] = (x[window.index] + self.eps * signs).clamp_(0, 1)
            tried = margin(model(best), y)
            better = tried > loss
            loss = torch.where(better, tried, loss)
            kept = torch.where(better.view(-1, 1, 1, 1), best[window.index], before)
            best[window.index] = kept
        return going.end(best)

    def _search_l2(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """Move bumps about: empty one window and put what it had, and a bump, into another."""
        best = self._tiles(x, draws)
        loss = margin(model(best), y)
        going = _Going(best)
        for query in range(1, self.num_queries):
            if (fooled := loss > 0).any():
                best, loss, x, y, draws = going.leave(fooled, best, loss, x, y, draws)
            if len(y) == 0:
                return going.found
            point = self._propose_l2(x, best, query, draws)
            tried = margin(model(point), y)
            better = tried > loss
            loss = torch.where(better, tried, loss)
            best = torch.where(better.view(-1, 1, 1, 1), point, best)
        return going.end(best)

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

    def _propose_l2(self, x: Tensor, best: Tensor, query: int, draws: Draws) -> Tensor:
        _, c, h, w = x.shape
        side = min(max(self.side(query, h, w) | 1, 3), h, w)  # odd, at least 3
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
        return self._onto_sphere(x, offset)

    def _onto_sphere(self, x: Tensor, offset: Tensor) -> Tensor:
        scale = self.eps / lengths(offset, "l2").clamp_min(_TINY)
        return Ball(x, "l2", self.eps).project_(x + offset * scale.view(-1, 1, 1, 1))


class _Going:
    """Which images are still searched: the others have their fooling image in `found`."""

    def __init__(self, start: Tensor) -> None:
        self.found = start.clone()
        self.places = torch.arange(len(start), device=start.device)

    def leave(self, fooled: Tensor, best: Tensor, *others: Any) -> list[Any]:
        """Take out the images that are fooled; return what is left of every argument."""
        self.found[self.places[fooled]] = best[fooled]
        going = ~fooled
        self.places = self.places[going]
        left = (v.select(going) if isinstance(v, Draws) else v[going] for v in (best, *others))
        return list(left)

    def end(self, best: Tensor) -> Tensor:
        """Return the images found, with the best tries of those that were not fooled."""
        self.found[self.places] = best
        return self.found


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
