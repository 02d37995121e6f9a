"""Lottery tickets: prune a share of what is left, rewind, train, again; and their controls.

The rounds are stages (`Start` says which weights a level begins with and which it scores); here
are the
pruning rule of a round and the stage lists of the variants.
"""

import dataclasses
import fnmatch

from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import prunable
from wiry.core.recipe import Stage, Start
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.plan import density_name, sparsity_of
from wiry.sparsify.select import keep_counts, restrict


@registry("sparsifier").register("prune-rate")
@dataclasses.dataclass(frozen=True)
class PruneRate(Sparsifier):
    """Remove a share of the weights that are still alive: one round of iterative magnitude pruning.

    Use: in a recipe with `levels`, where each level prunes what the one before it left. To reach a
    density that is given, use the method `lottery` or the sparsifier `magnitude`.

    Source: Frankle & Carbin 2019; Cosentino et al. 2019, section 4 (20 % in hidden layers, 10 % in
    the output layer, layer by layer).

    Differs: exact counts; the original code removes one weight more per layer and round, and
    everything that ties with the cut-off.

    Published: MNIST, LeNet-300-100 against PGD-10 at 0.3, 25,021 updates (Cosentino et al. 2019,
    Table 1): 97.73 % clean and 59.91 % robust at 16.9 % of the weights; 92.67 and 38.23 at 1.9 %.
    """

    rate: float = 0.2
    """Share of the alive weights to remove, in [0, 1)."""
    layer_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Rates of single layers by name or pattern (`"head.weight": 0.1`).

    Only with scope layerwise.
    """
    scope: str = "layerwise"
    """`layerwise`: the share of each layer; `global`: of all layers in one ranking."""
    score: component("score") = "magnitude"

    def __post_init__(self) -> None:
        check_share(self.rate, "rate")
        for name, rate in self.layer_rates.items():
            check_share(rate, f"layer_rates[{name!r}]")
        if self.scope not in ("layerwise", "global"):
            raise ValueError(f"scope must be 'layerwise' or 'global', got {self.scope!r}")
        if self.layer_rates and self.scope == "global":
            raise ValueError("layer_rates need scope 'layerwise'")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Prune once, from the start mask."""
        sizes = {name: p.numel() for name, p in prunable(model).items()}
        alive = {
            n: int(state.mask[n].sum()) if n in state.mask else size for n, size in sizes.items()
        }
        if self.scope == "global":
            keep = sum(alive.values()) - round(self.rate * sum(alive.values()))
            state.mask = select_mask(
                model, state, 1 - keep / sum(sizes.values()), "global", self.score
            )
            return
        for pattern in self.layer_rates:
            if not fnmatch.filter(sizes, pattern):
                raise UserError(
                    f"sparsifier 'prune-rate': layer_rates names {pattern!r}, "
                    f"the model has {', '.join(sizes)}"
                )
        scores = restrict(registry("score").build(self.score, model=model, state=state), state.mask)
        counts = {name: count - round(self._rate_of(name) * count) for name, count in alive.items()}
        state.mask = keep_counts(scores, counts)

    def _rate_of(self, name: str) -> float:
        matches = (
            r for pattern, r in self.layer_rates.items() if fnmatch.fnmatchcase(name, pattern)
        )
        return next(matches, self.rate)


def _levels(method: str, path: list[float], dense: Stage, epochs: int, weights: str) -> list[Stage]:
    """Return the dense stage and one level per density; each level scores the one before it."""
    stages = [dense]
    for density in path:
        before = stages[-1].name
        start = Start(
            weights=before if weights == "previous" else weights, mask=before, score=before
        )
        sparsifier = registry("sparsifier").normalize(
            {"name": "magnitude", "sparsity": sparsity_of(density)}
        )
        name = f"{method}-{density_name(density)}"
        change = {"name": name, "epochs": epochs, "start": start, "sparsifier": sparsifier}
        stages.append(dense.model_copy(update=change))
    return stages


@registry("method").register("lottery")
def lottery(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Lottery tickets: prune level by level, each level rewound to the initial weights.

    Use: to ask whether a sparse network could have been trained from its start, and as a strong
    but dear baseline: every level is a training of full length.

    Source: Frankle & Carbin 2019; under attack Cosentino et al. 2019.

    Differs: levels go to given densities by one global ranking of magnitudes; the papers remove
    20 % of each layer a level (sparsifier `prune-rate`).

    Published: MNIST, LeNet-300-100 against PGD-10 at 0.3, 25,021 updates (Cosentino et al. 2019,
    Table 1): 97.73 % clean and 59.91 % robust at 16.9 % of the weights; 92.67 and 38.23 at 1.9 %.
    """
    return _levels("lottery", path, dense, epochs, f"{dense.name}@0it")


@registry("method").register("lottery-dense")
def lottery_dense(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Lottery tickets rewound to the end of dense training (the code of Cosentino 2019).

    Use: as `lottery`, where clean accuracy counts more than the question of the start: each level
    begins from weights that are trained already.

    Source: the code of Cosentino et al. 2019; its text describes `lottery`.

    Differs: as `lottery`.

    Published: Cosentino et al. 2019, Table 1, whose numbers are made by this code: see `lottery`.
    """
    return _levels("lottery-dense", path, dense, epochs, dense.name)


@registry("method").register("lottery-continued")
def lottery_continued(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Iterative pruning without rewinding: every level trains on from the level before.

    Use: where the final network counts and not where it started; more training for the same
    number of levels, as nothing is forgotten.

    Source: Han et al. 2015; with an adversarial loss in every stage Sehwag et al. 2019.

    Differs: levels go to given densities by one global ranking of magnitudes.

    Published: none known at our sparsities under adversarial training.
    """
    return _levels("lottery-continued", path, dense, epochs, "previous")


@registry("method").register("lottery-random")
def lottery_random(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Control: the masks of iterative pruning on freshly drawn weights at every level.

    Use: beside `lottery`; what remains of its lead here is due to the masks, not the weights.

    Source: Frankle & Carbin 2019, section 2.

    Differs: as `lottery`.

    Published: none for iterative pruning; one-shot tickets, VGG-16, CIFAR-10, 80 %: 43.6 to 44.4 %
    under PGD-10 from random weights against 44.5 to 44.7 from the original ones (training logs of
    Li et al. 2020).
    """
    return _levels("lottery-random", path, dense, epochs, "reinit")


@registry("method").register("lottery-shuffled")
def lottery_shuffled(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Control: a ticket's layer densities and initial weights, the mask shuffled in each layer.

    Use: beside `lottery`; what remains of its lead here is due to the layers' densities, not to
    which weights are kept.

    Source: Frankle & Carbin 2019, appendix on random sparsity.

    Differs: as `lottery`.

    Published: none known under adversarial training.
    """
    stages = _levels("lottery", path, dense, epochs, f"{dense.name}@0it")
    last = stages[-1]
    start = Start(weights=f"{dense.name}@0it", mask=f"{last.name}:shuffled")
    return [
        *stages,
        dense.model_copy(
            update={
                "name": f"lottery-shuffled-{density_name(path[-1])}",
                "epochs": epochs,
                "start": start,
                "sparsifier": {"name": "fixed"},
            }
        ),
    ]
