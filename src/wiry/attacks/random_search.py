"""Random search that tries several proposals of an image at once; the loop of the Square Attack.

A proposal that is not kept leaves its image as it was, so the next ones can be made before that is
known. They go through the network together; those after one that is kept are made anew. What is
found is what one proposal after the other finds. What a proposal is, is for the attack.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.losses import margin
from wiry.attacks.nearby import Nearby
from wiry.core.draws import Draws


@dataclasses.dataclass(frozen=True)
class Proposal:
    """New points.

    Attributes:
        points: one a row that was asked for.
        corners: first row and first column of the square in which a point differs from the best
            one; None if it may differ anywhere.
    """

    points: Float[Tensor, "m c h w"]
    corners: tuple[Int[Tensor, " m"], Int[Tensor, " m"]] | None = None


Propose = Callable[[Tensor, Tensor, Tensor, int, Draws], Proposal]

_ROWS = {"cpu": 64, "cuda": 1024}  # images at once that a network answers best
_WASTE = {"cpu": 0.08, "cuda": 0.5}  # share of the answers that may go unused
_NEAR = 2  # times as many of both where only a square's reach is reckoned: a call costs more then
_DRAWN = 1 << 22  # random numbers drawn at once
_MEMORY = 0.95  # share of the old estimate in the new one of how often proposals are kept
_FEW = 8  # proposals a square's side; for fewer, layers are not kept


def climb(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    start: Float[Tensor, "n c h w"],
    draws: Draws,
    *,
    stages: Sequence[tuple[int, int]],
    propose: Propose,
    num_draws: int,
    follow: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Return the points of the largest margin, for each image until it fools the model.

    Args:
        stages: side of the squares and number of proposals, one stage after the other.
        propose: takes images, best points, the rows of these to make proposals for (a row may come
            several times), a side, and the streams of the rows; returns a new point for each row.
        num_draws: how many numbers a proposal takes from its stream.
        follow: whether proposals tell corners; then only what their squares reach is reckoned.
    """
    search = _Search(model, x, y, start, draws, propose, num_draws, follow)
    for side, count in stages:
        search.stage(side, count)
    return search.end()


class _Drawn(Draws):
    """Streams whose next numbers are drawn already, a row of 64-bit integers a stream."""

    def __init__(self, drawn: Int[Tensor, "n numbers"]) -> None:
        super().__init__(drawn[:, 0])
        self.drawn = drawn

    def integers(self, *shape: int) -> Int[Tensor, "..."]:
        """Return the next integers of each row."""
        start, self.position = self.position, self.position + math.prod(shape)
        return self.drawn[:, start : self.position].reshape(len(self), *shape)


class _Search:
    """What is remembered of each image; images leave when they fool the model."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        start: Tensor,
        draws: Draws,
        propose: Propose,
        num_draws: int,
        follow: bool = False,
    ) -> None:
        self.model, self.propose, self.num_draws = model, propose, num_draws
        self.follow = follow
        self.x, self.y, self.best, self.draws = x, y, start, draws
        self.found, self.places = start.clone(), torch.arange(len(x), device=x.device)
        self.loss = margin(model(start), y)
        self.kept_share = 0.3  # at first many proposals help
        self.drawn = self.done = torch.zeros_like(y)
        self.near: Nearby | None = None

    def stage(self, side: int, count: int) -> None:
        """Try `count` proposals of each image; a fast image waits for the others at the end."""
        self.near = None
        while count > 0:
            self.done = torch.zeros_like(self.y)
            self._leave()
            if len(self.y) == 0:
                return
            if self.follow and self.near is None and count >= _FEW:
                self.near = Nearby.of(self.model, self.best, side)
            part = min(count, max(_DRAWN // (len(self.y) * self.num_draws), 1))
            self.drawn = self.draws.integers(part, self.num_draws)
            while len(active := (self.done < part).nonzero().squeeze(1)) > 0:
                self._try(active, side, part)
                self._leave()
            count -= part

    def end(self) -> Tensor:
        """Return the images found, with the best tries of those that were not fooled."""
        self.found[self.places] = self.best
        return self.found

    def _depth(self, num_images: int, most: int) -> int:
        """Return how many proposals ahead cost no more answers than may go unused."""
        kind, factor = self.x.device.type, 1 if self.near is None else _NEAR
        ahead = 2 * factor * _WASTE.get(kind, 0) / max(self.kept_share, 1e-3)  # share * ahead / 2
        rows = factor * _ROWS.get(kind, 0)
        return max(min(rows // num_images, 1 + int(ahead), most), 1)

    def _try(self, active: Tensor, side: int, count: int) -> None:
        """Ask the model about the next proposals of each image that is active."""
        rows, done = active, self.done[active]
        depth = self._depth(len(active), count - int(done.min()))
        steps = done[:, None] + torch.arange(depth, device=done.device)
        if depth > 1:
            rows = active[:, None].expand(-1, depth).reshape(-1)
        draws = _Drawn(self.drawn[rows, steps.view(-1).clamp_max(count - 1)])
        proposal = self.propose(self.x, self.best, rows, side, draws)
        tried = margin(self._logits(proposal, rows), self.y[rows]).view_as(steps)
        better = (tried > self.loss[active, None]) & (steps < count)
        kept, first = better.max(1)  # the first of the largest, here of the trues
        chosen = active[kept]
        within = torch.arange(len(active), device=rows.device)[kept] * depth + first[kept]
        self.best[chosen] = proposal.points[within]
        if self.near is not None:
            self.near.keep(within)
        self.loss[chosen] = tried.view(-1)[within]
        used = torch.where(kept, first + 1, depth).minimum(count - done)
        self.done[active] = done + used
        share = len(chosen) / int(used.sum())
        self.kept_share = _MEMORY * self.kept_share + (1 - _MEMORY) * share

    def _logits(self, proposal: Proposal, rows: Tensor) -> Tensor:
        if self.near is None or proposal.corners is None:
            return self.model(proposal.points)
        return self.near.answers(proposal.points, rows, *proposal.corners)

    def _leave(self) -> None:
        fooled = self.loss > 0  # a wrong class is strictly ahead
        if not bool(fooled.any()):
            return
        self.found[self.places[fooled]] = self.best[fooled]
        going = ~fooled
        self.draws = self.draws.select(going)
        if self.near is not None:
            self.near.select(going)
        for name in ("x", "y", "best", "loss", "places", "done", "drawn"):
            setattr(self, name, getattr(self, name)[going])
