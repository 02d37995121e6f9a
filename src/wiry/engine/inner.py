"""Where the sparse engine takes the place of a network under attack: by a rule, not by a timing.

What is left of a network's multiplications decides, so that results do not depend on a machine's
speed or load. The rule's numbers are from benchmarks/sparse_step.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.engine.lower import Lowered, lower
from wiry.engine.network import SparseNetwork
from wiry.engine.replay import referred
from wiry.runtime.graph import Graph
from wiry.runtime.runtime import native

Choice = Literal["auto", "dense", "sparse"]

MOST_WORK = 0.2
"""Share of the multiplications that may be left for the engine to be chosen."""

LEAST_WORK = 100_000
"""Multiplications of an image below which a network is too small for the choice to matter."""


def sparse_network(model: nn.Module, input_shape: Sequence[int]) -> SparseNetwork | None:
    """Return the sparse engine of a network where the rule says that it is worth it, else None.

    It is not where the core is not compiled or the network has layers that the runtime lacks.
    """
    if not _may_be_sparse(model):
        return None
    try:
        native()
        lowered = lower(model, input_shape)
        is_worth = is_worth_it(lowered.graph, model)
        return SparseNetwork(model, input_shape, lowered) if is_worth else None
    except UserError:
        return None


def is_worth_it(graph: Graph, model: nn.Module) -> bool:
    """Say whether few enough multiplications of a network are left."""
    left, total = work(graph, model)
    return total >= LEAST_WORK and left <= MOST_WORK * total


@torch.no_grad()
def work(graph: Graph, model: nn.Module) -> tuple[int, int]:
    """Return how many multiplications an image takes without those by zero, and with them."""
    state = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    left = total = 0
    for op in graph.ops:
        if op.kind in ("conv2d", "linear"):
            weight = referred(op.attributes["weight"], state)
            assert weight is not None
            places = math.prod(op.shape[1:])
            left += places * int(weight.count_nonzero())
            total += places * weight.numel()
    return left, total


class SparseTwin:
    """Offers the attacks of a training the sparse engine, at the weights of the moment.

    Args:
        choice: "auto" takes the engine where few multiplications are left, "sparse" always.
        announce: told when attacks begin to search on the engine, and when they end it.

    Raises:
        UserError: with "sparse", if the network has a layer that the runtime does not know or is
            not on the CPU, or the compiled core is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: Sequence[int],
        choice: Choice,
        announce: Callable[[str], None],
    ) -> None:
        self._model, self._shape, self._choice = model, tuple(input_shape), choice
        self._announce, self._is_on = announce, False
        self._lowered: Lowered | None = None
        self._network: SparseNetwork | None = None
        self._is_possible = choice != "dense"
        if choice == "sparse":
            self._prepare()

    def __call__(self) -> nn.Module:
        """Return what to search on: the engine with the model's present values, or the model."""
        is_on = self._is_wanted()
        if is_on != self._is_on:
            self._is_on = is_on
            self._tell()
        if not is_on:
            self._network = None
            return self._model
        if self._network is None:
            self._network = SparseNetwork(self._model, self._shape, self._lowered)
        else:
            self._network.refresh()
        return self._network

    def _is_wanted(self) -> bool:
        if not self._is_possible or self._choice == "sparse":
            return self._is_possible
        if not _may_be_sparse(self._model):
            return False
        if self._lowered is None:
            try:
                self._prepare()
            except UserError as error:
                self._is_possible = False
                self._announce(f"attacks search on all weights, zeros too: {error}")
                return False
        assert self._lowered is not None
        return is_worth_it(self._lowered.graph, self._model)

    def _prepare(self) -> None:
        native()
        if any(p.device.type != "cpu" for p in self._model.parameters()):
            raise UserError("the sparse engine is for the CPU")
        self._lowered = lower(self._model, self._shape)

    def _tell(self) -> None:
        assert self._lowered is not None
        left, total = work(self._lowered.graph, self._model)
        weights = "the sparse weights" if self._is_on else "all weights, zeros too"
        self._announce(f"attacks search on {weights}: {left / total:.1%} of the work is left")


def _may_be_sparse(model: nn.Module) -> bool:
    """Say, at little cost, whether enough weights are zero for the rule to have a chance."""
    weights = [p for p in model.parameters() if p.dim() >= 2]
    total = sum(p.numel() for p in weights)
    if total == 0 or any(p.device.type != "cpu" for p in weights):
        return False
    return sum(int(p.count_nonzero()) for p in weights) <= 2 * MOST_WORK * total
