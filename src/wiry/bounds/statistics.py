"""The batch statistics that batch normalisation used in a forward pass, for bounds in training."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def recorded_statistics(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Record mean and biased variance of the input of each batch norm that uses its batch's.

    Yields a mapping by layer name that is filled by the forward passes inside; the last one counts.
    The values carry their graph, so gradients flow through the statistics as they do in training.
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            dims = [d for d in range(x.dim()) if d != 1]
            found[name] = (x.mean(dims), x.var(dims, correction=0))

        return hook

    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        and (module.training or module.running_mean is None)
    ]
    handles = [module.register_forward_pre_hook(record(name)) for name, module in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
