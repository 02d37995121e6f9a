"""HARP: learn on the robust loss how many weights each layer keeps, and which."""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wiry.core.mask import prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.allocate import capacities, split_budget
from wiry.sparsify.base import check_share
from wiry.sparsify.score_search import (
    ScoreSearch,
    norm_parameters,
    num_keep,
    random_score,
    scaled_score,
    search_and_finetune,
    start_mask,
    straight_through,
)

NUM_LEVELS = 20  # the penalty rises this many times: once an epoch in the paper, which has 20
MET = 5e-5  # an overshoot below this counts as none: zero in the four decimals of the paper's code


@registry("sparsifier").register("harp")
@dataclasses.dataclass(frozen=True)
class Harp(ScoreSearch):
    """Train a kept share for every layer together with the scores, under a budget penalty.

    Use: where layers differ much in what they can spare, so at 95 % sparsity and above; best clean
    accuracy of the strong entries in the benchmark. Needs a search long enough for the shares to
    move, and a learning rate that moves them: with Adam at 0.001 a share's logit moves by at most
    about 0.001 a step.

    Source: Zhao & Wressnegger 2023: a layer keeps `k_min + (1 - k_min) * sigmoid(r)` of its
    weights; the loss gets `gamma * max(kept(r) / k - 1, 0)`; gamma rises in steps and is frozen
    once the budget is met. Gradient of a share: the mask passes gradients straight through to it
    as well, so it is the sum over the layer of those of the mask (their code). Only single weights
    are pruned here, not channels.

    Differs: the mask is chosen once a step. Gamma rises in 20 equal parts of the stage. All layers
    start at the target's density unless told otherwise. Layers keep at least one weight. In the
    last step the learned shares are scaled to the exact budget, so that what is measured last is
    what is returned; the paper's networks meet it up to the penalty.

    Published: ResNet-18 on CIFAR-10, no extra data, clean / AutoAttack at 0.031
    (AdversarialPruningBenchmark): 83.38/45.40, 83.38/45.69, 83.11/45.50 at 90 / 95 / 99 %.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed at the end, in [0, 1)."""
    gamma: float = 0.2
    """Weight of the penalty at the end of the stage; it begins at a 20th of it."""
    floor: float = 0.1
    """Least density of a layer, as a share of the density asked for (k_min / k in the paper)."""
    start_density: float | None = None
    """Kept share of every layer at the start, in (0, 1]; none: the density asked for.

    The paper starts at 0.1 for targets of 0.1 and 0.01.
    """
    scaled_init: bool = True
    """Begin with scores in proportion to the weights; if false, with random ones."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_share(self.floor, "floor")
        if self.gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma:g}")
        if self.start_density is not None and not 0 < self.start_density <= 1:
            raise ValueError(f"start_density must be in (0, 1], got {self.start_density:g}")

    @property
    def density(self) -> float:
        """The kept share that is asked for, k in the paper."""
        return 1 - self.sparsity

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Make the scores and one logit a layer."""
        super().setup(model, state)
        weights = prunable(model)
        least = self.floor * self.density
        start = self.density if self.start_density is None else self.start_density
        share = min(max((start - least) / (1 - least), 1e-4), 1 - 1e-4)  # finite logits
        logits = torch.full((len(weights),), math.log(share / (1 - share)))
        device = next(iter(weights.values())).device
        state.tensors["rates"] = logits.to(device).requires_grad_()
        state.tensors["frozen_gamma"] = torch.tensor(-1.0)
        sizes = torch.tensor([float(weight.numel()) for weight in weights.values()])
        state.tensors["sizes"] = sizes.to(device)

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return scores, logits of the shares, scales and shifts of the normalisation layers."""
        return {
            "rates": state.tensors["rates"],
            **super().trainable(model, state),
            **norm_parameters(model),
        }

    def first_score(self, weight: Tensor, state: SparseState) -> Tensor:
        """Return scaled or random scores."""
        return scaled_score(weight) if self.scaled_init else random_score(weight, state)

    def shares(self, state: SparseState) -> Tensor:
        """Return the kept share of every layer, with its graph."""
        least = self.floor * self.density
        return least + (1 - least) * torch.sigmoid(state.tensors["rates"])

    def overshoot(self, state: SparseState) -> Tensor:
        """Return how far the shares together are above the budget, relative to it, at least 0."""
        sizes = state.tensors["sizes"]
        kept = (self.shares(state) * sizes).sum() / sizes.sum()
        return torch.relu(kept / self.density - 1)

    def counts(self, scores: Mapping[str, Tensor], state: SparseState) -> dict[str, int]:
        """Return what the shares ask for; from the last step on, scaled to the exact budget."""
        limits = capacities(scores, start_mask(state))
        shares = dict(zip(scores, self.shares(state).detach().tolist(), strict=True))
        wanted = {name: shares[name] * scores[name].numel() for name in scores}
        if state.step + 1 >= state.total_steps:
            return split_budget(wanted, limits, num_keep(scores, self.sparsity))
        return {name: min(max(1, round(wanted[name])), limits[name]) for name in scores}

    def effective(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return weights times mask; the graph leads to the scores and to the layers' shares."""
        shares = dict(zip(prunable(model), self.shares(state).unbind(), strict=True))
        return {
            name: state.tensors[f"weight/{name}"]
            * straight_through(mask, state.tensors[f"score/{name}"].abs(), shares[name])
            for name, mask in state.mask.items()
        }

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Send gradients to scores and shares, and add that of the penalty."""
        super().after_backward(model, state)
        (self.penalty_weight(state) * self.overshoot(state)).backward()

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Freeze the penalty's weight if a level ends with the budget met; choose the mask."""
        ends = self._level(state, state.step + 1) > self._level(state, state.step)
        if ends and float(self.overshoot(state).detach()) < MET:
            state.tensors["frozen_gamma"].fill_(self.penalty_weight(state))
        super().after_step(model, state)

    def penalty_weight(self, state: SparseState) -> float:
        """Return gamma at this step: a staircase over the stage, or where it was frozen."""
        frozen = float(state.tensors["frozen_gamma"])
        if frozen >= 0:
            return frozen
        return self.gamma * (self._level(state, state.step) + 1) / NUM_LEVELS

    def _level(self, state: SparseState, step: int) -> int:
        """Return the stair at a step: 0 to NUM_LEVELS - 1, and NUM_LEVELS after the last step."""
        return step * NUM_LEVELS // state.total_steps


@registry("method").register("harp")
def harp(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Search the dense network with learned densities of the layers, then fine-tune it."""
    return search_and_finetune("harp", path[-1], dense, epochs, {})
