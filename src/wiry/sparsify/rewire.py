"""Drop and grow: what the sparse-to-sparse methods share. The number of weights never changes."""

import abc
import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, density, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.plan import density_name, sparsity_of
from wiry.sparsify.select import keep_largest


@dataclasses.dataclass(frozen=True)
class Rewiring(Sparsifier, abc.ABC):
    """Base of SET, RigL and Flying Bird: a random sparse network that moves links at regular steps.

    Source: Mocanu et al. 2018; Evci et al. 2020, section 3. Differs: updates are given as a number
    over the stage, not as a step interval, so that a shorter stage keeps its shape.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are absent, in [0, 1), all through the stage."""
    drop_fraction: float = 0.3
    """Share of a layer's links moved at the first update; it falls to 0 along a cosine."""
    end: float = 0.75
    """Share of the stage after which links stay (RigL, section 3)."""
    num_updates: int = 30
    allocation: component("allocation") = "erk"

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_share(self.drop_fraction, "drop_fraction")
        if not 0 < self.end <= 1:
            raise ValueError(f"end is a share of the stage in (0, 1], got {self.end:g}")
        if self.num_updates < 1:
            raise ValueError(f"num_updates must be at least 1, got {self.num_updates}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Draw a random mask of the asked sparsity; a start mask is pruned further at random."""
        links = prunable(model)  # biases and norms of removed channels come back with the links
        state.mask = Mask({name: value for name, value in state.mask.items() if name in links})
        if not state.mask or 1 - density(model, state.mask) < self.sparsity:
            state.mask = select_mask(model, state, self.sparsity, self.allocation, "random")

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Move links if an update is due, then re-apply the mask."""
        if self.is_update_step(state):
            self.rewire(model, state)
        super().after_step(model, state)

    def is_update_step(self, state: SparseState) -> bool:
        """Say whether links move in this step: `num_updates` times up to `end`."""
        before, now = (self.num_due(s / state.total_steps) for s in (state.step, state.step + 1))
        return before < now <= self.num_updates

    def num_due(self, progress: float) -> int:
        """Return how many updates are due after a share of the stage: evenly up to `end`."""
        return int(progress / self.end * self.num_updates + 1e-9)

    def drop_share(self, state: SparseState) -> float:
        """Return the share of a layer's links to move now: a cosine down to 0 at `end`."""
        way = min(1.0, state.step / (self.end * state.total_steps))
        return self.drop_fraction * 0.5 * (1 + math.cos(math.pi * way))

    @abc.abstractmethod
    def grow_scores(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return a score for every prunable weight; the absent ones with the largest are grown."""

    def moves(self, model: nn.Module, state: SparseState) -> dict[str, tuple[int, int]]:
        """Return for every layer how many links to drop and how many to grow."""
        share = self.drop_share(state)
        nums = {name: num_movable(mask, share) for name, mask in state.mask.items()}
        return {name: (num, num) for name, num in nums.items()}

    def rewire(self, model: nn.Module, state: SparseState) -> None:
        """Drop the smallest weights of every layer and grow as many absent ones, at zero."""
        scores = self.grow_scores(model, state)
        parameters = prunable(model)
        moves = self.moves(model, state)
        state.mask = Mask(
            {
                name: move_links(mask, parameters[name].detach(), scores[name], *moves[name])
                for name, mask in state.mask.items()
            }
        )
        with torch.no_grad():
            for name, mask in state.mask.items():
                parameters[name].mul_(mask)


def num_movable(mask: Tensor, share: float) -> int:
    """Return how many links are a share of the active ones; no more than there are absent ones."""
    num_active = int(mask.sum())
    return min(int(share * num_active), mask.numel() - num_active)


def move_links(
    mask: Tensor, weight: Tensor, score: Tensor, num_dropped: int, num_grown: int
) -> Tensor:
    """Drop the weakest active weights and grow the inactive ones with the largest score.

    Ties go to the lower index; a link that is dropped now is not grown now.
    """
    lowest = torch.finfo(weight.dtype).min
    num_kept = int(mask.sum()) - num_dropped
    kept = keep_largest(weight.abs().masked_fill(~mask, lowest), num_kept)
    return kept | keep_largest(score.masked_fill(mask, lowest), num_grown)


def drop_and_grow(mask: Tensor, weight: Tensor, score: Tensor, drop_fraction: float) -> Tensor:
    """Replace the weakest active weights by the inactive ones with the largest score.

    Source: Evci et al. 2020 (RigL), Algorithm 1. Differs: ties go to the lower index; a link that
    is dropped now is not grown now.

    Args:
        drop_fraction: share of the active weights to replace, in [0, 1); fewer if there are not
            enough inactive ones.

    Returns:
        A new mask with exactly as many active entries as `mask`.
    """
    num_moved = num_movable(mask, drop_fraction)
    return move_links(mask, weight, score, num_moved, num_moved)


def stage_from_scratch(
    method: str, sparse_density: float, dense: Stage, epochs: int, fields: Mapping[str, object]
) -> Stage:
    """Return a stage that trains sparse from the initial weights, with no dense training before.

    It takes the epochs that the dense stage and `epochs` more would have taken together, so that
    methods with and without a dense network are compared at equal length.
    """
    sparsifier = {"name": method, "sparsity": sparsity_of(sparse_density), **fields}
    return dense.model_copy(
        update={
            "name": f"{method}-{density_name(sparse_density)}",
            "epochs": dense.epochs + epochs,
            "sparsifier": registry("sparsifier").normalize(sparsifier),
        }
    )
