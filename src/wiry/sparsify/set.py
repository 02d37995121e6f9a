"""Sparse evolutionary training: sparse from the start, weak links move to random places."""

import dataclasses

import torch
from torch import Tensor, nn

from wiry.core.mask import prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.rewire import Rewiring, stage_from_scratch


@registry("sparsifier").register("set")
@dataclasses.dataclass(frozen=True)
class SparseEvolutionaryTraining(Rewiring):
    """Drop the smallest weights and grow random ones.

    Use: to train sparse from the first step, with no dense network at any time and no gradient of
    absent weights; the cheapest of its family and the baseline of the others. Where the gradient
    may be looked at, `rigl` finds useful links sooner.

    Source: Mocanu et al. 2018.

    Differs: weakest by magnitude in each layer, not the smallest positive and the largest negative
    ones apart; the share that moves falls along RigL's cosine.

    Published: none known under adversarial training; the paper trains naturally.
    """

    def grow_scores(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return random scores from the sparsifier's own stream."""
        return {
            name: torch.rand(p.shape, generator=state.generator).to(p.device)
            for name, p in prunable(model).items()
        }


@registry("method").register("set")
def set_from_scratch(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Train sparse from the start; weak links move to random places (Mocanu et al. 2018)."""
    return [stage_from_scratch("set", path[-1], dense, epochs, {})]
