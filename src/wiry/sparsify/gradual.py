"""Gradual magnitude pruning: the mask tightens while the network trains."""

import dataclasses

import torch
from torch import nn

from wiry.core.mask import density
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.structure import least_sparsity


@registry("sparsifier").register("gradual")
@dataclasses.dataclass(frozen=True)
class Gradual(Sparsifier):
    """Raise the sparsity along a schedule, pruning the smallest weights at each update.

    Use: when there are epochs enough after the dense training that the network can adapt while it
    is pruned; usually ahead of one-shot pruning at the same length. With few epochs left, prune
    once.

    Source: Zhu & Gupta 2017, equation 1.

    Differs: updates are given as a number over the stage, not as a step interval, so that a shorter
    stage keeps its shape.

    Published: none known under adversarial training; the paper trains naturally.
    """

    sparsity: float = 0.9
    """Final share of the prunable weights that are removed, in [0, 1)."""
    begin: float = 0.0
    """Share of the stage before the first update."""
    end: float = 0.7
    """Share of the stage at which the final sparsity is reached.

    The rest trains with a fixed mask.
    """
    num_updates: int = 20
    schedule: component("schedule") = "cubic"
    allocation: component("allocation") = "global"
    score: component("score") = "magnitude"
    structure: component("structure") = "unstructured"
    """Which weights are kept or removed together.

    With `n-m` the first update goes to the least sparsity of the pattern at once.
    """

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"need 0 <= begin < end <= 1, got begin {self.begin:g}, end {self.end:g}"
            )
        if self.num_updates < 1:
            raise ValueError(f"num_updates must be at least 1, got {self.num_updates}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Start from the start mask; a stage without steps prunes to the end at once."""
        state.tensors["start_sparsity"] = torch.tensor(1 - density(model, state.mask)).double()
        if state.total_steps == 0:
            self._prune(model, state, 1.0)

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Prune further if an update is due at this step, then re-apply the mask."""
        now, before = self._num_due(state.step + 1, state), self._num_due(state.step, state)
        if now > before:
            self._prune(model, state, now / self.num_updates)
        super().after_step(model, state)

    def _num_due(self, step: int, state: SparseState) -> int:
        """Return how many updates are due after `step` steps; all of them at `end`."""
        first, last = self.begin * state.total_steps, self.end * state.total_steps
        share = (step - first) / (last - first)
        return max(0, min(self.num_updates, int(share * self.num_updates + 1e-9)))

    def _prune(self, model: nn.Module, state: SparseState, share: float) -> None:
        start = float(state.tensors["start_sparsity"])
        way = registry("schedule").build(self.schedule, progress=share)
        sparsity = max(
            start + (self.sparsity - start) * way,
            1 - density(model, state.mask),
            least_sparsity(model, state.mask, self.structure),
        )
        state.mask = select_mask(
            model, state, sparsity, self.allocation, self.score, self.structure
        )
