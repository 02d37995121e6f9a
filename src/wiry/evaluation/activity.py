"""How many activations are exactly zero: activation sparsity, per layer and of the whole network.

Measured by hooks on the activation modules; a `torch.relu` called in a `forward` cannot be seen.
Sparsity of weights is in `cost.py`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.activity import activation_modules
from wiry.evaluation.judge import device_of, frozen


@torch.no_grad()
def activation_sparsity(
    model: nn.Module, x: Float[Tensor, "n c h w"], *, batch_size: int = 500
) -> dict[str, Any]:
    """Count the activations that are exactly zero, in eval mode.

    Source: Guo et al. 2018, section 1 (the second kind of sparsity they discuss). A module that is
    called several times counts every time.

    Returns:
        `sparsity` (zeros / activations, over all layers), `zeros`, `activations`, and `layers`: a
        row of `name`, `zeros`, `activations` and `sparsity` for each, in the model's order.

    Raises:
        UserError: if the model has no activation module.
    """
    counts: dict[str, list[int]] = {name: [0, 0] for name in activation_modules(model)}

    def counter(name: str) -> Any:
        def count(_: nn.Module, __: Any, output: Tensor) -> None:
            counts[name][0] += int((output == 0).sum())
            counts[name][1] += output.numel()

        return count

    hooks = [m.register_forward_hook(counter(n)) for n, m in activation_modules(model).items()]
    try:
        with frozen(model):
            for start in range(0, len(x), batch_size):
                model(x[start : start + batch_size].to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    rows = [_row(name, *pair) for name, pair in counts.items()]
    return _row("", *(sum(pair[i] for pair in counts.values()) for i in (0, 1))) | {"layers": rows}


def _row(name: str, zeros: int, activations: int) -> dict[str, Any]:
    sparsity = zeros / activations if activations else 0.0
    named = {"name": name} if name else {}
    return {**named, "zeros": zeros, "activations": activations, "sparsity": sparsity}
