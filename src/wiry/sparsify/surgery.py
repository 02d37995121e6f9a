"""Dynamic network surgery: pruned weights go on learning and may come back.

The network computes with a masked copy; the whole of the weights is trained. The copy that is
trained lies in the state, the parameters hold what is masked.
"""

import dataclasses

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, prunable
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.select import keep_counts


@registry("sparsifier").register("surgery")
@dataclasses.dataclass(frozen=True)
class Surgery(Sparsifier):
    """Prune and splice: the forward pass is masked, the update reaches every weight.

    A weight leaves the network when it falls below 0.9 T and returns when it grows above 1.1 T; in
    between it stays as it is. Masks change with a probability that falls over the stage, then they
    are fixed and training goes on.

    Use: after dense training, where one-shot pruning is too rash: a wrong cut heals. It costs a
    second copy of the weights and, while masks change, a selection at most steps.

    Source: Guo, Yao & Chen 2016, by its code: the band around T, and the probability
    (1 + gamma * i)^-power of an update at step i. The pruning of Guo et al. 2018.

    Differs: T is solved at each update so that exactly the asked number of weights is kept, per
    layer or over all by `allocation`; the original computes it once, from mean and deviation of
    each layer and a rate set by hand that has no relation to a sparsity. Biases are not pruned.
    Steps are shares of the stage.

    Published: LeNet-5 108 times smaller, AlexNet 17.7 times, without loss of (clean) accuracy (Guo
    et al. 2016); robustness of Guo et al. 2018: none known.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are masked, in [0, 1), from the first step."""
    allocation: component("allocation") = "global"
    """Where T is solved: one for all (`global`), or one a layer for the counts it gives."""
    hysteresis: float = 0.1
    """Half the width of the band around T, as a share of T, in [0, 1), in which masks stay."""
    gamma: float = 1.4
    """Fall of the update probability: at `end` it is (1 + gamma)^-power (1e-4 x 14,000 steps)."""
    power: float = 1.0
    """Power of that fall; 0 updates the masks at every step."""
    end: float = 0.75
    """Share of the stage after which masks are fixed."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_share(self.hysteresis, "hysteresis")
        if min(self.gamma, self.power) < 0:
            raise ValueError(
                f"gamma and power must be 0 or more, got {self.gamma:g} and {self.power:g}"
            )
        if not 0 < self.end <= 1:
            raise ValueError(f"end is a share of the stage in (0, 1], got {self.end:g}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Take a copy of the weights to train, and prune them a first time."""
        for name, parameter in prunable(model).items():
            state.tensors[_key(name)] = parameter.detach().clone().requires_grad_()
        state.mask = select_mask(model, state, self.sparsity, self.allocation, "magnitude")

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the whole weights in place of the masked parameters."""
        return {n: state.tensors.get(_key(n), p) for n, p in model.named_parameters()}

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Write the masked weights into the parameters."""
        self._write(model, state)

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Give the whole weights the gradient of the masked network, masked places included."""
        for name, parameter in prunable(model).items():
            state.tensors[_key(name)].grad, parameter.grad = parameter.grad, None

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Prune and splice if this step's draw says so; write the masked weights."""
        if self._is_update(state):
            state.mask = self._spliced(state)
        self._write(model, state)

    def _is_update(self, state: SparseState) -> bool:
        """Draw whether masks change in this step."""
        way = state.step / (self.end * state.total_steps)
        if way >= 1:
            return False
        draw = float(torch.rand((), generator=state.generator))
        return draw < (1 + self.gamma * way) ** -self.power

    def _spliced(self, state: SparseState) -> Mask:
        """Return the mask of the largest weights, in which the present links have the advantage.

        Kept are present weights above 0.9 T and absent ones above 1.1 T; so the weights are divided
        by 0.9 and by 1.1, and a T that keeps exactly n of them lies below the n-th largest.
        """
        scores = {
            name: splice_scores(state.tensors[_key(name)], mask, self.hysteresis)
            for name, mask in state.mask.items()
        }
        counts = registry("allocation").build(
            self.allocation, scores=scores, alive=Mask(), num_keep=state.mask.num_kept()
        )
        return keep_counts(scores, counts)

    @torch.no_grad()
    def _write(self, model: nn.Module, state: SparseState) -> None:
        for name, parameter in prunable(model).items():
            torch.mul(state.tensors[_key(name)], state.mask[name], out=parameter.data)


def splice_scores(weight: Tensor, present: Tensor, hysteresis: float) -> Tensor:
    """Return the threshold T up to which each weight is in the network."""
    size = weight.detach().abs()
    return torch.where(present, size / (1 - hysteresis), size / (1 + hysteresis))


def _key(name: str) -> str:
    return f"whole/{name}"
