"""Materialise and pull back: methods that train something else than the weights themselves.

Scores, rates and factors are trained, the model computes with effective weights. These are computed
once a step, written into the parameters before the forward pass, and their gradients are sent back
to the trained tensors after the backward pass. An attack of ten steps so sees one computation of
the weights, where parametrised layers repeat it in each of their forward passes.
"""

import abc

import torch
from torch import Tensor, nn

from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier


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
