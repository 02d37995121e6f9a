"""What a model costs: sparsity three ways, multiply-accumulates and bytes, dense and sparse.

Pure functions of a model and its mask; nothing is changed. FLOPs and bytes are counted, not
measured: no claim is made about the speed of a machine.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, prunable
from wiry.evaluation.judge import device_of, frozen

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def cost(model: nn.Module, mask: Mask, *, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Count sparsity, FLOPs and bytes of a model under a mask.

    - `mask_density`: kept / prunable. `nonzero_density`: weights that are kept and not zero /
      prunable. `sparsity` is 1 - `nonzero_density`.
    - A unit is an output row or channel of a prunable weight, dead if all its incoming weights are
      zero. Outgoing weights are not looked at: which layer comes next is not known here. So a
      unit that nothing reads is not counted as dead.
    - FLOPs are for one image, two a multiply-accumulate, of convolutions and linear layers;
      the sparse count leaves out zero weights. Biases, normalisation and activations are not
      counted. `flops_uncounted` names prunable weights that no such layer used.
    - What a mask says of parameters that are not prunable (biases and norms of removed channels) is
      not counted: they are few, and dense in every file.
    - `bytes_dense`: all parameters and saved buffers, four bytes a float. `bytes_sparse`: for each
      prunable weight one bit an entry (rounded up to bytes) and four bytes a non-zero, the rest
      dense.

    Args:
        input_shape: shape of one image.

    Raises:
        UserError: if the mask does not fit the model.
    """
    weights = prunable(model)
    mask.check(dict(model.named_parameters()))
    effective = {name: _effective(weights[name], mask.get(name)) for name in weights}
    multiplications = count_multiplications(model, input_shape)
    layers = [_layer(name, effective[name], mask, multiplications) for name in weights]
    num_prunable = sum(layer["entries"] for layer in layers)
    num_kept = sum(layer["kept"] for layer in layers)
    num_nonzeros = sum(layer["nonzeros"] for layer in layers)
    dead = [count_dead_units(model, name, weight) for name, weight in effective.items()]
    fixed = _flops_of_fixed_weights(model, set(weights), multiplications)
    return {
        "mask_density": num_kept / num_prunable if num_prunable else 1.0,
        "nonzero_density": num_nonzeros / num_prunable if num_prunable else 1.0,
        "sparsity": 1 - num_nonzeros / num_prunable if num_prunable else 0.0,
        "nonzeros": num_nonzeros,
        "prunable": num_prunable,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dead_units": sum(num_dead for num_dead, _ in dead),
        "units": sum(num_units for _, num_units in dead),
        "flops_dense": fixed + sum(layer["flops_dense"] for layer in layers),
        "flops_sparse": fixed + sum(layer["flops_sparse"] for layer in layers),
        "flops_uncounted": [name for name in weights if name not in multiplications],
        **count_bytes(model, effective),
        "layers": layers,
    }


@torch.no_grad()
def count_multiplications(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Return how often one image uses each entry of a weight, by name of the parameter.

    A zero image is sent through the model in eval mode; a layer used twice counts twice. Only the
    weights of convolution and linear modules are seen.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    counts: dict[str, int] = {}

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if (name := names.get(id(module.weight))) is None:
            return  # a weight computed from other parameters: reported as uncounted
        if isinstance(module, nn.Linear):
            uses = output.numel() // module.out_features
        elif isinstance(module, _TRANSPOSED):
            uses = inputs[0].numel() // inputs[0].shape[1]
        else:
            uses = output.numel() // output.shape[1]
        counts[name] = counts.get(name, 0) + uses

    layers = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, layers)]
    try:
        with frozen(model):
            model(torch.zeros(1, *input_shape, device=device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def count_dead_units(model: nn.Module, name: str, weight: Tensor) -> tuple[int, int]:
    """Return how many output units of a weight have only zeros coming in, and how many there are.

    Args:
        name: name of the parameter in the model, which says how its dimensions are ordered.
        weight: its values under the mask.
    """
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, _TRANSPOSED):  # (in, out / groups, ...) there
        inputs = weight.unflatten(0, (owner.groups, -1)).transpose(1, 2).flatten(0, 1)
        rows = inputs.flatten(1)
    else:
        rows = weight.flatten(1)
    return int((rows == 0).all(dim=1).sum()), len(rows)


def count_bytes(model: nn.Module, effective: dict[str, Tensor]) -> dict[str, int]:
    """Return `bytes_dense` and `bytes_sparse` (see `cost`).

    Args:
        effective: prunable weight by name, zeros where pruned.
    """
    saved = set(model.state_dict())
    kept = [*model.parameters(), *(b for n, b in model.named_buffers() if n in saved)]
    num_dense = sum(t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in kept)
    num_packed = sum(
        math.ceil(weight.numel() / 8) + 4 * int(weight.count_nonzero())
        for weight in effective.values()
    )
    num_prunable = 4 * sum(weight.numel() for weight in effective.values())
    return {"bytes_dense": num_dense, "bytes_sparse": num_dense - num_prunable + num_packed}


def _effective(weight: Tensor, kept: Tensor | None) -> Tensor:
    weight = weight.detach()
    return weight if kept is None else weight.masked_fill(~kept.to(weight.device), 0)


def _layer(name: str, weight: Tensor, mask: Mask, multiplications: dict[str, int]) -> dict:
    num_kept = int(mask[name].sum()) if name in mask else weight.numel()
    num_nonzeros, uses = int(weight.count_nonzero()), multiplications.get(name, 0)
    return {
        "name": name,
        "shape": list(weight.shape),
        "kept": num_kept,
        "nonzeros": num_nonzeros,
        "entries": weight.numel(),
        "density": num_kept / weight.numel(),
        "flops_dense": 2 * uses * weight.numel(),
        "flops_sparse": 2 * uses * num_nonzeros,
    }


def _flops_of_fixed_weights(
    model: nn.Module, excluded: set[str], multiplications: dict[str, int]
) -> int:
    parameters = dict(model.named_parameters())
    return sum(
        2 * uses * parameters[name].numel()
        for name, uses in multiplications.items()
        if name not in excluded
    )
