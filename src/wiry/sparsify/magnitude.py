"""One-shot pruning: score once, keep the best, train on with the mask fixed."""

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.plan import sparsity_of, stage_after
from wiry.sparsify.select import restrict


@registry("sparsifier").register("magnitude")
@dataclasses.dataclass(frozen=True)
class Magnitude(Sparsifier):
    """Prune once, by magnitude unless told otherwise, to an exact count; then the mask is fixed.

    Use: as the baseline that every other method has to beat, and where time is short: one training
    after the dense one, no setting but the sparsity. Global allocation up to about 95 %; beyond
    that whole layers may empty, and a layer-wise or ERK allocation is safer.

    Source: Han et al. 2015. With the score of an adversarially trained network and the layer-wise
    allocation this is the LWM baseline of Sehwag et al. 2020.

    Differs: the count is exact; a threshold keeps everything that ties with it.

    Published: LWM, CIFAR-10 with 500,000 pseudo-labelled images, WRN-28-4, PGD-50 at 8/255: 53.8 /
    49.2 / 37.3 % at 90 / 95 / 99 % sparsity, 57.2 % dense (Sehwag et al. 2020).
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    allocation: component("allocation") = "global"
    """How the budget is split over layers."""
    score: component("score") = "magnitude"
    structure: component("structure") = "unstructured"
    """What is kept or removed together; `unstructured` and `n-m` keep the count exact."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Choose the mask among the weights that the start mask left."""
        state.mask = select_mask(
            model, state, self.sparsity, self.allocation, self.score, self.structure
        )


def select_mask(
    model: nn.Module,
    state: SparseState,
    sparsity: float,
    allocation: object,
    score: object,
    structure: object = "unstructured",
) -> Mask:
    """Return the mask of the best-scored weights that are alive, with an exact count.

    Args:
        sparsity: share of the prunable weights to remove, in [0, 1).
        allocation: spec of a registered allocation.
        score: spec of a registered score.
        structure: spec of a registered structure; some keep whole groups, so at most the count.
    """
    scores = registry("score").build(score, model=model, state=state)
    return mask_of(model, scores, state.mask, sparsity, allocation, structure)


def mask_of(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    alive: Mask,
    sparsity: float,
    allocation: object,
    structure: object = "unstructured",
) -> Mask:
    """Return what `select_mask` does for scores that are there already, one per prunable weight."""

    def allocate(scores: Mapping[str, Tensor], alive: Mask, num_keep: int) -> dict[str, int]:
        return registry("allocation").build(
            allocation, scores=scores, alive=alive, num_keep=num_keep
        )

    total = sum(p.numel() for p in prunable(model).values())
    return registry("structure").build(
        structure,
        model=model,
        scores=restrict(scores, alive),
        alive=alive,
        num_keep=total - round(sparsity * total),
        allocate=allocate,
    )


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


@registry("method").register("n-m")
def n_m(path: list[float], dense: Stage, epochs: int, *, n: int = 2, m: int = 4) -> list[Stage]:
    """Prune the dense network once to n of every m inputs by magnitude, then train on.

    Use: for sparse tensor cores, which take 2:4; a density below n/m prunes further inside the
    pattern.

    Raises:
        UserError: for a density above n/m.
    """
    density = path[-1]
    if density > n / m:
        raise UserError(
            f"method 'n-m': {n}:{m} keeps at most {n / m:g} of the weights, asked for {density:g}; "
            f"the least sparsity is {1 - n / m:g}"
        )
    return _structured("n-m", density, dense, epochs, {"n": n, "m": m})


@registry("method").register("block")
def block(
    path: list[float], dense: Stage, epochs: int, *, height: int = 1, width: int = 4
) -> list[Stage]:
    """Prune the dense network once in blocks by magnitude, then train on."""
    return _structured("block", path[-1], dense, epochs, {"height": height, "width": width})


def _structured(
    name: str, density: float, dense: Stage, epochs: int, fields: Mapping[str, int]
) -> list[Stage]:
    structure = {"name": name, **fields}
    sparsifier = {"name": "magnitude", "sparsity": sparsity_of(density), "structure": structure}
    return [dense, stage_after(name, density, dense, epochs, sparsifier)]
