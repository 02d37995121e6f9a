"""One-shot pruning: score once, keep the best, train on with the mask fixed."""

import dataclasses

from torch import nn

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.plan import sparsity_of, stage_after
from wiry.sparsify.select import keep_counts, restrict


@registry("sparsifier").register("magnitude")
@dataclasses.dataclass(frozen=True)
class Magnitude(Sparsifier):
    """Prune once, by magnitude unless told otherwise, to an exact count; then the mask is fixed.

    Source: Han et al. 2015. With the score of an adversarially trained network this is the
    LWM baseline of Sehwag et al. 2020.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    allocation: component("allocation") = "global"
    """How the budget is split over layers."""
    score: component("score") = "magnitude"

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Choose the mask among the weights that the start mask left."""
        state.mask = select_mask(model, state, self.sparsity, self.allocation, self.score)


def select_mask(
    model: nn.Module, state: SparseState, sparsity: float, allocation: object, score: object
) -> Mask:
    """Return the mask of the best-scored weights that are alive, with an exact count.

    Args:
        sparsity: share of the prunable weights to remove, in [0, 1).
        allocation: spec of a registered allocation.
        score: spec of a registered score.
    """
    scores = restrict(registry("score").build(score, model=model, state=state), state.mask)
    total = sum(p.numel() for p in prunable(model).values())
    num_keep = total - round(sparsity * total)
    counts = registry("allocation").build(
        allocation, scores=scores, alive=state.mask, num_keep=num_keep
    )
    return keep_counts(scores, counts)


@registry("method").register("one-shot")
def one_shot(
    path: list[float], dense: Stage, epochs: int, *, allocation: str = "global"
) -> list[Stage]:
    """Prune the dense network once by global magnitude, then train on."""
    sparsifier = {"name": "magnitude", "sparsity": sparsity_of(path[-1]), "allocation": allocation}
    return [dense, stage_after("one-shot", path[-1], dense, epochs, sparsifier)]


@registry("method").register("one-shot-layerwise")
def one_shot_layerwise(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Prune the dense network once, the same share in every layer, then train on."""
    sparsifier = {"name": "magnitude", "sparsity": sparsity_of(path[-1]), "allocation": "layerwise"}
    return [dense, stage_after("one-shot-layerwise", path[-1], dense, epochs, sparsifier)]
