"""Pruning by a solver: train under a pull towards the sparse set, prune at the end, train on.

The alternating direction method of multipliers (ADMM): weights W see the (robust) loss, a copy Z is
sparse, and a dual U remembers how far the two stay apart. Also the stage list of PwoA, which is
this solver under another objective.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage, Start
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import mask_of
from wiry.sparsify.plan import density_name, sparsity_of, stage_after

_LARGEST_RHO = 1.0  # where the copy of the solver in PwoA's code stops the growth


@registry("sparsifier").register("admm")
@dataclasses.dataclass(frozen=True)
class Admm(Sparsifier):
    """Pull the weights towards the sparse set while they train, then prune to an exact count.

    The loss gets the penalty rho/2 |W - Z + U|^2. At each of `num_updates` times over the stage Z
    becomes the sparse network closest to W + U, U grows by W - Z, and rho is multiplied by
    `growth`. After the last step the network is Z's choice of W: the largest of W.

    Use: between robust dense training and fine-tuning; the method of the same name plans all
    three. Needs long stages: before the duals have grown it is magnitude pruning. For whole columns
    or filters set `structure`; then at most the count is kept.

    Source: Ye et al. 2019; constants of their code.

    Differs: projections keep exact counts, where PwoA's copy of the code cuts at a percentile.
    Updates are a number over the stage (every 20 of 200 epochs, as published), so a shorter stage
    keeps its shape. The learning rate is the stage's own and does not restart at every update.

    Published: ResNet-18 on CIFAR-10, clean / AutoAttack at 0.031 (AdversarialPruningBenchmark):
    80.54/43.68, 79.33/42.56, 71.17/37.21 at 90 / 95 / 99 % sparsity; filters 79.27/42.68,
    78.81/40.79, 70.53/37.30 at 50 / 75 / 90 %.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    structure: component("structure") = "unstructured"
    """`unstructured`, `column` or `filter-rows` as published ("irregular", "column", "filter")."""
    allocation: component("allocation") = "layerwise"
    """How the budget is split over layers."""
    num_updates: int = 10
    """How often Z, U and rho are updated, evenly over the stage."""
    rho: float = 1e-3
    """Weight of the penalty at the start."""
    growth: float = 1.3
    """Factor on rho at each update; rho stays below 1."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        if self.num_updates < 1:
            raise ValueError(f"num_updates must be at least 1, got {self.num_updates}")
        if self.rho <= 0 or self.growth < 1:
            raise ValueError(
                f"rho must be above 0 and growth at least 1, got {self.rho:g} and {self.growth:g}"
            )

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """In the first step, make Z from the start weights and U zero."""
        if state.step == 0:
            state.tensors["rho"] = torch.tensor(self.rho, dtype=torch.double)
            for name, parameter in prunable(model).items():
                state.tensors[f"u/{name}"] = torch.zeros_like(parameter)
            self._project(model, state)

    @torch.no_grad()
    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Add the penalty's gradient, rho (W - Z + U), and mask where the start mask is."""
        rho = float(state.tensors["rho"])
        for name, parameter in prunable(model).items():
            assert parameter.grad is not None, "every prunable weight takes part in the loss"
            apart = parameter - state.tensors[f"z/{name}"] + state.tensors[f"u/{name}"]
            parameter.grad.add_(apart, alpha=rho)
        super().after_backward(model, state)

    @torch.no_grad()
    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Update Z, U and rho if it is time; prune after the last step."""
        super().after_step(model, state)
        done = state.step + 1
        if done == state.total_steps:
            self._prune(model, state)
        elif self._num_due(done, state) > self._num_due(state.step, state):
            self._project(model, state)
            for name, parameter in prunable(model).items():
                state.tensors[f"u/{name}"].add_(parameter - state.tensors[f"z/{name}"])
            state.tensors["rho"].mul_(self.growth).clamp_(max=max(_LARGEST_RHO, self.rho))

    def finish(self, model: nn.Module, state: SparseState) -> Mask:
        """Prune a stage without steps, and return the mask."""
        if state.step == 0:
            self._prune(model, state)
        return state.mask

    def _num_due(self, step: int, state: SparseState) -> int:
        return step * self.num_updates // state.total_steps

    @torch.no_grad()
    def _project(self, model: nn.Module, state: SparseState) -> None:
        """Make Z the sparse network closest to W + U."""
        sums = {n: p + state.tensors[f"u/{n}"] for n, p in prunable(model).items()}
        mask = self._closest(model, state, sums)
        state.tensors |= {f"z/{name}": value * mask[name] for name, value in sums.items()}

    @torch.no_grad()
    def _prune(self, model: nn.Module, state: SparseState) -> None:
        state.mask = self._closest(model, state, prunable(model))
        state.mask.apply_(model)

    def _closest(self, model: nn.Module, state: SparseState, values: Mapping[str, Tensor]) -> Mask:
        """Return the mask of the Euclidean projection: what loses the least sum of squares."""
        squares = {name: value.detach().square() for name, value in values.items()}
        return mask_of(model, squares, state.mask, self.sparsity, self.allocation, self.structure)


@registry("method").register("admm")
def admm(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Pull the dense network to the sparse set by ADMM for half of the epochs, then fine-tune."""
    return [dense, *solve_and_finetune("admm", path[-1], dense, epochs, {})]


@registry("method").register("pwoa")
def pwoa(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Prune a robust network by ADMM on natural images, with the dense network as teacher.

    Source: Jian et al. 2022. The dense stage must be robust; the sparse stages see no attack.
    """
    fields = {"rho": 0.01, "growth": 1.35, "num_updates": 16}  # of their code: every 3 of 50 epochs
    change = {"objective": {"name": "pwoa"}, "teacher": dense.name}
    stages = solve_and_finetune("pwoa", path[-1], dense, epochs, fields)
    return [dense, *(stage.model_copy(update=change) for stage in stages)]


def solve_and_finetune(
    method: str, density: float, dense: Stage, epochs: int, fields: Mapping[str, object]
) -> list[Stage]:
    """Return an ADMM stage with half of `epochs` and a fine-tuning stage with the rest."""
    num_solve = (epochs + 1) // 2
    sparsifier = {"name": "admm", "sparsity": sparsity_of(density), **fields}
    solve = stage_after(f"{method}-solve", density, dense, num_solve, sparsifier)
    change = {
        "name": f"{method}-{density_name(density)}",
        "epochs": epochs - num_solve,
        "start": Start(weights=solve.name, mask=solve.name),
        "sparsifier": registry("sparsifier").normalize("fixed"),
    }
    return [solve, dense.model_copy(update=change)]
