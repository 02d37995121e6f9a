"""Robust scratch tickets: a robust subnetwork of a network whose weights are never trained."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from wiry.core.mask import prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import check_share
from wiry.sparsify.hydra import first_counts
from wiry.sparsify.rewire import stage_from_scratch
from wiry.sparsify.score_search import ScoreSearch, fan_in, random_score


@registry("sparsifier").register("scratch-ticket")
@dataclasses.dataclass(frozen=True)
class ScratchTicket(ScoreSearch):
    """Keep weights random and train only which of them are there (edge-popup on a robust loss).

    Use: to ask how much robustness structure alone can carry, or as a control for other methods:
    the weights carry none. Nothing but the scores trains, neither biases nor normalisation layers.
    Not to ship: the published networks lose most of their robustness under AutoAttack.

    Source: Fu et al. 2021 and its code; edge-popup of Ramanujan et al. 2020, scores drawn as there.

    Differs: the mask is chosen once a step; counts are exact. The weights' signs are drawn from the
    sparsifier's stream. Scale and shift of normalisation layers stay what they are at the start,
    where the paper's layers have none.

    Published: PreActResNet-18 on CIFAR-10, PGD at 8/255: 47 to 48 % with 10 to 20 % of the weights
    (read off a figure). ResNet-18, clean / AutoAttack at 0.031
    (AdversarialPruningBenchmark): 60.92/14.31, 56.93/16.76, 48.90/15.16 at 90 / 95 / 99 %.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    init: Literal["signed-constant", "as-is"] = "signed-constant"
    """Weights: random signs of the size sqrt(2 / fan-in) (the paper's best), or those it finds."""
    scale_fan: bool = False
    """Count only the kept share of the fan-in in the size of signed constants.

    For networks without normalisation layers (Ramanujan et al. 2020).
    """
    allocation: component("allocation") = "layerwise"
    """How the budget is split over layers; the paper's is layerwise."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Draw the weights, which then never change, and the scores."""
        if self.init == "signed-constant":
            for name, parameter in prunable(model).items():
                state.tensors[f"weight/{name}"] = self._constants(parameter.detach(), state)
        super().setup(model, state)

    def first_score(self, weight: Tensor, state: SparseState) -> Tensor:
        """Return random scores."""
        return random_score(weight, state)

    def counts(self, scores: Mapping[str, Tensor], state: SparseState) -> dict[str, int]:
        """Return the counts that the allocation gave for the first scores."""
        return first_counts(scores, state, self.sparsity, self.allocation)

    def _constants(self, weight: Tensor, state: SparseState) -> Tensor:
        """Return random signs times the standard deviation of He et al. 2015."""
        share = 1 - self.sparsity if self.scale_fan else 1.0
        size = math.sqrt(2 / (fan_in(weight) * share))
        positive = torch.rand(weight.shape, generator=state.generator) < 0.5
        return torch.where(positive, size, -size).to(weight)


@registry("method").register("scratch-ticket")
def scratch_ticket(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Find a robust subnetwork of an untrained random network; no weight is ever trained."""
    return [stage_from_scratch("scratch-ticket", path[-1], dense, epochs, {})]
