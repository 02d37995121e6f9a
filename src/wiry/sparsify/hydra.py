"""HYDRA: learn on the robust loss which weights of a trained network to keep, then fine-tune."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import check_share
from wiry.sparsify.score_search import (
    ScoreSearch,
    norm_parameters,
    num_keep,
    random_score,
    scaled_score,
    search_and_finetune,
    start_mask,
)


@registry("sparsifier").register("hydra")
@dataclasses.dataclass(frozen=True)
class Hydra(ScoreSearch):
    """Train one score a weight on the robust loss, weights frozen; keep the largest scores.

    Use: as the search between robust dense training and fine-tuning, at high sparsity, where
    magnitudes mislead; the method of the same name plans all three. Its own baseline, the least
    weight magnitudes (LWM) of the paper, is the method `one-shot-layerwise`. Scales and shifts of
    normalisation layers train along; biases and weights do not.

    Source: Sehwag et al. 2020 and its code; the scaled initialisation of the scores is theirs.

    Differs: the mask is chosen once a step, not in each forward pass: the weights of a step are
    the same, an attack of ten steps does not sort ten times more. Counts are exact and ties go to
    the lower index. The counts of the layers are taken once, from the first scores, whatever the
    allocation: a global one ranks the scaled first scores over all layers, and scores that train on
    gradients of different sizes do not move weights from layer to layer (HARP learns the counts).

    Published: CIFAR-10 with 500,000 pseudo-labelled images, WRN-28-4, PGD-50 at 8/255: 55.2 / 54.2
    / 47.3 % at 90 / 95 / 99 % sparsity (LWM 53.8 / 49.2 / 37.3). ResNet-18 without extra data,
    clean / AutoAttack at 0.031 (AdversarialPruningBenchmark): 76.74/43.34, 76.16/42.45,
    72.21/38.80.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    allocation: component("allocation") = "layerwise"
    """How the budget is split over layers; the paper's is layerwise, first and last included."""
    scaled_init: bool = True
    """Begin with scores in proportion to the weights; if false, with random ones."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")

    def first_score(self, weight: Tensor, state: SparseState) -> Tensor:
        """Return scaled or random scores."""
        return scaled_score(weight) if self.scaled_init else random_score(weight, state)

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the scores, and scales and shifts of the normalisation layers."""
        return super().trainable(model, state) | norm_parameters(model)

    def counts(self, scores: Mapping[str, Tensor], state: SparseState) -> dict[str, int]:
        """Return the counts that the allocation gave for the first scores."""
        return first_counts(scores, state, self.sparsity, self.allocation)


def first_counts(
    scores: Mapping[str, Tensor], state: SparseState, sparsity: float, allocation: object
) -> dict[str, int]:
    """Return the counts an allocation gives for the first scores it is asked about.

    They are kept in `state.tensors["counts"]`, in the order of `scores`.

    Args:
        allocation: spec of a registered allocation.
    """
    if "counts" not in state.tensors:
        counts = registry("allocation").build(
            allocation,
            scores=scores,
            alive=start_mask(state),
            num_keep=num_keep(scores, sparsity),
        )
        state.tensors["counts"] = torch.tensor([counts[name] for name in scores])
    return dict(zip(scores, state.tensors["counts"].tolist(), strict=True))


@registry("method").register("hydra")
def hydra(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Search the dense network for a robust subnetwork by trained scores, then fine-tune it."""
    return search_and_finetune("hydra", path[-1], dense, epochs, {})
