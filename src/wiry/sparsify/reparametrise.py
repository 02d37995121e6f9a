"""Materialise and pull back: methods that train something else than the weights themselves.

Scores, rates and factors are trained, the model computes with effective weights. These are computed
once a step, written into the parameters before the forward pass, and their gradients are sent back
to the trained tensors after the backward pass. An attack of ten steps so sees one computation of
the weights, where parametrised layers repeat it in each of their forward passes.
"""

import abc

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier
from wiry.sparsify.select import keep_largest


class Reparametrised(Sparsifier, abc.ABC):
    """Base of the methods whose weights are a function of other tensors.

    `setup` puts leaf tensors into `state.tensors`, `trainable` returns them for the optimizer.
    """

    @abc.abstractmethod
    def effective(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the weights the model is to compute with, by parameter name, with their graph."""

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Write the effective weights into the parameters and keep their graph for this step."""
        with torch.enable_grad():
            effective = self.effective(model, state)
        state.transient["effective"] = effective
        write_parameters(model, effective)

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Send the parameters' gradients back to the trained tensors."""
        effective = state.transient.pop("effective")
        parameters = dict(model.named_parameters())
        pairs = [(value, parameters[name]) for name, value in effective.items()]
        used = [(value, p.grad) for value, p in pairs if p.grad is not None and value.requires_grad]
        torch.autograd.backward([value for value, _ in used], [gradient for _, gradient in used])
        for _, parameter in pairs:
            parameter.grad = None

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Write the new effective weights into the parameters, for whoever looks at the model."""
        self.write_effective(model, state)

    def write_effective(self, model: nn.Module, state: SparseState) -> None:
        """Write the effective weights into the parameters, without a graph."""
        with torch.no_grad():
            write_parameters(model, self.effective(model, state))


@torch.no_grad()
def write_parameters(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy values into the parameters of these names."""
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)


class _StraightThroughTopK(torch.autograd.Function):
    """Forward: 1 at the `count` largest scores, else 0; backward: the identity."""

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, count: int) -> Tensor:
        return keep_largest(scores, count).to(scores.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through_top_k(scores: Tensor, count: int) -> Tensor:
    """Return a float mask of exactly `count` ones; gradients pass to the scores unchanged.

    Source: Ramanujan et al. 2020 (edge-popup), section 3; Sehwag et al. 2020 (HYDRA), section 4.
    """
    return _StraightThroughTopK.apply(scores, count)  # type: ignore[no-any-return] # a Tensor
