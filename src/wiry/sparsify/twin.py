"""Twin representation: train every weight as a product of two factors, which makes it sparse."""

import dataclasses

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.reparametrise import Reparametrised
from wiry.sparsify.rewire import stage_from_scratch


@registry("sparsifier").register("twin")
@dataclasses.dataclass(frozen=True)
class Twin(Reparametrised):
    """Train each weight as a product of two decaying factors and prune the smallest products once.

    Use: from scratch, with no dense network before. Decay of both factors acts on the product like
    an L1 penalty (over all factors of w, the least (a^2 + b^2) / 2 is |w|), so weights that the
    loss does not need are near zero when the pruning comes. Costs a second copy of the weights and
    of the optimizer's memory while it trains; the result is an ordinary network. Plain SGD moves a
    product a^2 + b^2 times as far as it would move the weight, so small weights want a larger rate
    where no normalisation follows.

    Source: Li et al. 2023 (Twin-Rep), algorithm 1: one global pruning early in the training, then
    on with the mask fixed.

    Differs: the factors multiply to the weights the stage starts from, where the paper draws both
    at random: a layer's second factor begins at one value, sqrt(rms of its weights), so both
    factors are of one size and a weight may still change its sign (with equal factors it could
    not). Counts are exact. Only single weights are pruned here, not channels (Channel-Rep).

    Published: ResNet-18 on CIFAR-10, no extra data, clean / AutoAttack at 0.031
    (AdversarialPruningBenchmark): 76.37/42.93, 73.19/41.47, 64.97/36.10 at 90 / 95 / 99 %.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    prune_at: float = 0.1
    """Share of the stage after which the smallest products are pruned; after one step at least."""
    factor_decay: float = 2e-4
    """Weight decay of both factors, added to their gradients.

    It comes on top of the optimizer's; the method `twin` leaves it to an optimizer that has one.
    """
    allocation: component("allocation") = "global"
    """How the budget is split over layers."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_share(self.prune_at, "prune_at")
        if self.factor_decay < 0:
            raise ValueError(f"factor_decay must be at least 0, got {self.factor_decay:g}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Make the factors; they take the start weights over in the first step."""
        for name, parameter in prunable(model).items():
            first, second = factors_of(parameter.detach())
            state.tensors[f"first/{name}"] = first.requires_grad_()
            state.tensors[f"second/{name}"] = second.requires_grad_()

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the factors in the place of the weights, and every other parameter."""
        weights = prunable(model)
        others = {name: p for name, p in model.named_parameters() if name not in weights}
        return others | {key: state.tensors[key] for key in factor_names(model)}

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Take over the start weights in the first step, then write the products."""
        if state.step == 0:
            self._take_over(model, state)
        super().before_forward(model, state)

    def effective(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the products of the factors, masked."""
        products = {
            name: state.tensors[f"first/{name}"] * state.tensors[f"second/{name}"]
            for name in prunable(model)
        }
        mask = state.mask
        return {n: value * mask[n] if n in mask else value for n, value in products.items()}

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Send the gradients to the factors and add their decay."""
        super().after_backward(model, state)
        if self.factor_decay:
            for key in factor_names(model):
                factor = state.tensors[key]
                assert factor.grad is not None, "every prunable weight takes part in the loss"
                factor.grad.add_(factor.detach(), alpha=self.factor_decay)

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Write the new products and, if it is time, prune the smallest."""
        super().after_step(model, state)
        if state.step + 1 == max(1, round(self.prune_at * state.total_steps)):
            self._prune(model, state)

    def finish(self, model: nn.Module, state: SparseState) -> Mask:
        """Leave the products in the parameters; a stage without steps prunes the start weights."""
        if state.total_steps == 0:
            self._prune(model, state)
        else:
            self.write_effective(model, state)
        return state.mask

    def _prune(self, model: nn.Module, state: SparseState) -> None:
        state.mask = select_mask(model, state, self.sparsity, self.allocation, "magnitude")
        state.mask.apply_(model)

    @torch.no_grad()
    def _take_over(self, model: nn.Module, state: SparseState) -> None:
        for name, parameter in prunable(model).items():
            first, second = factors_of(parameter)
            state.tensors[f"first/{name}"].copy_(first)
            state.tensors[f"second/{name}"].copy_(second)


def factors_of(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Split a layer's weights into two factors of equal root mean square, the second constant."""
    size = weight.square().mean().sqrt().sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return weight / size, torch.ones_like(weight) * size


def factor_names(model: nn.Module) -> list[str]:
    """Return the names of all factors in a state's tensors."""
    return [f"{place}/{name}" for name in prunable(model) for place in ("first", "second")]


@registry("method").register("twin")
def twin(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Train products of two decaying factors from scratch, prune once early, train on."""
    settings = registry("optimizer").build(dense.optimizer)
    fields = {"factor_decay": 0.0} if getattr(settings, "weight_decay", 0.0) else {}
    return [stage_from_scratch("twin", path[-1], dense, epochs, fields)]
