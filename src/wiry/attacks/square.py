"""The Square Attack: random search with squares, no gradient. For evaluation.

It finds what gradient attacks miss when a model hides its gradients; logits are all that it sees of
the model. The l2 form changes bumps in place of flat squares.
"""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Norm, attacking, check_ball, check_counts, is_trivial
from wiry.attacks.losses import margin
from wiry.attacks.projections import Ball, lengths
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
        generator: torch.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """Return the images with the largest margin for a wrong class."""
        x = x.detach()
        if is_trivial(self.eps, x):
            return x.clone()
        propose = self._propose_linf if self.norm == "linf" else self._propose_l2
        start = self._stripes if self.norm == "linf" else self._tiles
        found = x.clone()
        with attacking(model, "eval"), torch.no_grad():
            places = (model(x).argmax(1) == y).nonzero().squeeze(1)
            if len(places) == 0:
                return found
            best = start(x, generator)[places]
            best_loss = margin(model(best), y[places])
            for query in range(1, self.num_queries + 1):
                if (fooled := best_loss > 0).any():  # a wrong class is strictly ahead
                    found[places[fooled]] = best[fooled]
                    going = ~fooled
                    places, best, best_loss = places[going], best[going], best_loss[going]
                if len(places) == 0 or query == self.num_queries:
                    break
                tried = propose(x, places, best, query, generator)
                loss = margin(model(tried), y[places])
                better = loss > best_loss
                best_loss = torch.where(better, loss, best_loss)
                best = torch.where(better.view(-1, 1, 1, 1), tried, best)
            found[places] = best
        return found

    def side(self, query: int, height: int, width: int) -> int:
        """Return the side of the square at a query, in pixels."""
        paper_query = query * 10_000 // self.num_queries
        share = self.p_init / 2 ** sum(paper_query > bound for bound in _HALVINGS)
        return min(max(round((share * height * width) ** 0.5), 1), height, width)

    def _stripes(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n, c, _, w = x.shape
        return (x + self.eps * _signs((n, c, 1, w), x, generator)).clamp_(0, 1)

    def _propose_linf(
        self, x: Tensor, places: Tensor, best: Tensor, query: int, generator: torch.Generator
    ) -> Tensor:
        n, c, h, w = x.shape
        side = self.side(query, h, w)
        window = _Window(_corners(n, h - side, w - side, x, generator)[places], side, c)
        signs = _signs((n, c, 1, 1), x, generator)[places]
        tried = best.clone()
        tried[window.index] = (x[places][window.index] + self.eps * signs).clamp_(0, 1)
        return tried

    def _tiles(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n, c, h, w = x.shape
        side = max(min(h, w) // _TILES, 1)
        offset = torch.zeros_like(x)
        for top in range(0, h - side + 1, side):
            for left in range(0, w - side + 1, side):
                bumps = _bumps(n, side, x, generator)
                signs = _signs((n, c, 1, 1), x, generator)
                offset[:, :, top : top + side, left : left + side] = bumps * signs
        return self._onto_sphere(x, offset)

    def _propose_l2(
        self, x: Tensor, places: Tensor, best: Tensor, query: int, generator: torch.Generator
    ) -> Tensor:
        n, c, h, w = x.shape
        side = min(max(self.side(query, h, w) | 1, 3), h, w)  # odd, at least 3
        drawn = _Window(_corners(n, h - side, w - side, x, generator)[places], side, c)
        emptied = _Window(_corners(n, h - side, w - side, x, generator)[places], side, c)
        bumps = _bumps(n, side, x, generator)[places]
        signs = _signs((n, c, 1, 1), x, generator)[places]
        centre = x[places]
        offset = best - centre
        inside = torch.zeros_like(offset)
        inside[drawn.index] = inside[emptied.index] = 1
        unused = (self.eps**2 - lengths(offset, "l2").square()).clamp_(min=0).view(-1, 1, 1, 1)
        budget = (offset * inside).square().sum((2, 3), keepdim=True) + unused / c
        old = offset[drawn.index]
        new = _unit_per_channel(old) + bumps * signs
        offset[emptied.index] = 0
        offset[drawn.index] = _unit_per_channel(new) * budget.sqrt()
        return self._onto_sphere(centre, offset)

    def _onto_sphere(self, x: Tensor, offset: Tensor) -> Tensor:
        scale = self.eps / lengths(offset, "l2").clamp_min(_TINY)
        return Ball(x, "l2", self.eps).project_(x + offset * scale.view(-1, 1, 1, 1))


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


def _bumps(n: int, side: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return (n, 1, side, side): a mound and its negative side by side, half of them turned."""
    upper = side // 2
    pair = torch.cat([bump(upper, side, x), -bump(side - upper, side, x)])
    pair = pair / pair.norm().clamp_min(_TINY)
    turn = torch.rand((n, 1, 1), generator=generator, device=generator.device).to(x.device) > 0.5
    return torch.where(turn, pair.T, pair)[:, None]


def _unit_per_channel(offset: Tensor) -> Tensor:
    return offset / (torch.linalg.vector_norm(offset, dim=(2, 3), keepdim=True) + _TINY)


def _signs(shape: tuple[int, ...], x: Tensor, generator: torch.Generator) -> Tensor:
    bits = torch.randint(0, 2, shape, generator=generator, device=generator.device)
    return bits.to(x).mul_(2).sub_(1)


def _corners(n: int, down: int, right: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return (n, 2): the upper left corner of a square per image, each place alike."""
    drawn = torch.rand((n, 2), generator=generator, device=generator.device).to(x.device)
    return (drawn * drawn.new_tensor([down + 1, right + 1])).long()
