"""Networks of one shape as one network: stacked tensors, of which each network holds a view.

A replica stays an ordinary module: its parameters and buffers are moved into row i of the stacked
tensors, so that whatever changes them in place changes the stack, and the other way round. Nothing
here trains.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stack(nn.Module):
    """R networks behind one call: images in R equal parts, one after the other, logits likewise.

    To an attack this is a model like any other: it can be frozen, and its mode can be set.

    Args:
        models: networks of the same architecture; from now on their tensors are views, until
            `release`.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = tuple(models)
        self.skeleton = copy.deepcopy(models[0]).to("meta")
        self.weights: dict[str, nn.Parameter] = {}
        for rows in zip(*(model.named_parameters() for model in models), strict=True):
            name, weight = rows[0][0], nn.Parameter(_join([row for _, row in rows]))
            self.register_parameter(name.replace(".", "/"), weight)
            self.weights[name] = weight
        self.statistics = {
            rows[0][0]: _join([row for _, row in rows])
            for rows in zip(*(model.named_buffers() for model in models), strict=True)
        }

    def __len__(self) -> int:
        return len(self.models)

    def forward(self, x: Float[Tensor, "rn c h w"]) -> Float[Tensor, "rn classes"]:
        """Return each network's logits for its part of the images."""
        return self.each(lambda call, part: call(part), self.parted(x)).flatten(0, 1)

    def each(self, compute: Callable[..., Any], *arguments: Tensor) -> Any:
        """Return what `compute(forward, *arguments)` returns for every network, stacked.

        Args:
            compute: is given a network's forward function and its rows of the arguments; its
                operations must not depend on values.
        """

        def one(
            weights: dict[str, nn.Parameter], statistics: dict[str, Tensor], *rows: Tensor
        ) -> Any:
            def call(x: Tensor) -> Tensor:
                return functional_call(self.skeleton, {**weights, **statistics}, (x,))

            return compute(call, *rows)

        return vmap(one)(self.weights, self.statistics, *arguments)

    def parted(self, x: Float[Tensor, "rn ..."]) -> Float[Tensor, "r n ..."]:
        """Return rows of all networks, one network a row."""
        return x.unflatten(0, (len(self), -1))

    def give_gradients(self) -> None:
        """Let every network's gradients be views of the stacked ones."""
        rows = {n: () if p.grad is None else p.grad.unbind() for n, p in self.weights.items()}
        for place, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.grad = rows[name][place] if rows[name] else None

    def release(self) -> None:
        """Give every network memory of its own again."""
        for model in self.models:
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.clone()
                tensor.grad = None


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Return the tensors stacked; each becomes a view of its row."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, row in zip(tensors, stacked.unbind(), strict=True):
        tensor.data = row
    return stacked
