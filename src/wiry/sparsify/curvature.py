"""Second-order saliency by block-wise K-FAC: what a change of a layer's weights costs the loss.

Records what the linear layers and convolutions of a model read, and the gradients of what they give
out, in the backward pass of a loss. Knows neither masks nor attacks.
"""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from wiry.core.errors import UserError
from wiry.core.mask import prunable

Record = tuple[Tensor, Tensor]
"""A layer's input and the gradient of its output, images first."""


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return by weight name the layer of each prunable weight.

    Raises:
        UserError: if a prunable weight belongs to no linear layer or convolution.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = {f"{n}.weight" if n else "weight": m for n, m in model.named_modules()}
    names = prunable(model)
    for name in names:
        if not isinstance(layers.get(name), kinds):
            raise UserError(
                f"prunable weight {name!r} belongs to no linear layer or convolution, and the "
                "curvature of others is not known; narrow the model's prunable()"
            )
    return {name: layers[name] for name in names}


class Recorder:
    """Record inputs and output gradients of layers in the backward pass that reaches the weights.

    What the loss does before (attacks, in whatever mode) is told apart in two ways. A pass that is
    differentiated towards the images only never makes the gradient of the weights, and without it
    nothing is taken. And each forward pass of a layer drops what was found before it, because the
    loss's backward pass is the last thing that happens; so an inner step on the weights does not
    count either.

    Passes in eval mode are not looked at, so attacks in that mode cost nothing.

    Args:
        layers: what to record, by name of the weight; `stop` ends it.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._found: dict[str, dict[int, Record]] = {name: {} for name in layers}
        self._taken: dict[str, list[Record]] = {name: [] for name in layers}
        self._numbers = itertools.count()
        self._handles: list[RemovableHandle] = [
            layer.register_forward_hook(partial(self._after_forward, name))
            for name, layer in layers.items()
        ]

    def stop(self) -> None:
        """Take every hook away; call it after the loss's backward pass."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def taken(self, name: str) -> list[Record]:
        """Return what was recorded of a layer, one record for each of the loss's passes."""
        return self._taken[name]

    def _after_forward(
        self, name: str, layer: nn.Conv2d | nn.Linear, given: tuple[Any], out: Tensor
    ) -> None:
        weight = layer.weight
        if not (layer.training and out.requires_grad and weight.requires_grad):
            return
        self._found[name].clear()
        find = partial(self._find, name, next(self._numbers), given[0].detach())
        self._handles.append(out.register_hook(find))
        self._handles.append(weight.register_hook(partial(self._take, name)))

    def _find(self, name: str, number: int, x: Tensor, gradient: Tensor) -> None:
        self._found[name][number] = (x, gradient.detach())

    def _take(self, name: str, gradient: Tensor) -> None:
        """Take what was found: a weight's gradient is made after those of all its outputs."""
        found = self._found[name]
        self._taken[name] = [found[number] for number in sorted(found)]


def saliency(
    layer: nn.Module, change: Float[Tensor, "*w"], records: list[Record]
) -> Float[Tensor, "*w"]:
    """Return each weight's part of 1/2 dw' H dw, which sums to the whole.

    H has one block an output i, G_ii A: A is the second moment of what the output reads (summed
    over places, averaged over images), G_ii the mean square of the image's own output gradient.
    A weight's part is 1/2 G_ii dw_ij (A dw_i)_j. A is never formed: A dw is the gradient by dw of
    half the square of the layer's answer with dw for weights.

    Source: Lee et al. 2022 and their code; factors as Grosse and Martens 2016.

    Args:
        layer: linear layer or convolution; it must have no hooks.
        change: dw, in the shape of the weight.
        records: from `Recorder.taken`; gradients of a mean over images.
    """
    bias = getattr(layer, "bias", None)
    fixed = {} if bias is None else {"bias": torch.zeros_like(bias)}
    pulled, energy = torch.zeros_like(change), change.new_zeros(len(change))
    num_images = sum(len(x) for x, _ in records)
    for x, gradient in records:
        with torch.enable_grad():
            weight = change.detach().requires_grad_()
            answer = functional_call(layer, {"weight": weight, **fixed}, (x,))
            half = answer.square().sum() / 2
        pulled += torch.autograd.grad(half, weight)[0]
        outputs = gradient.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)
        num_places = outputs.shape[1] / len(x)
        energy += outputs.square().sum(1) * (num_images / num_places)
    shape = (-1, *[1] * (change.dim() - 1))
    return change * energy.view(shape) * pulled / (2 * max(1, num_images))
