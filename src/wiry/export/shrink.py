"""A masked model as a smaller dense one: dead channels are taken out, outputs stay the same.

Uses the groups that models declare (`wiry.core.channels`). Zero weights between channels that live
stay zeros in the smaller model: nothing is gained from those here.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup, channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask

Kept = dict[str, Bool[Tensor, " channels"]]

_TOLERANCE = 1e-5  # sums over fewer zeros round differently in float32; relative to the outputs
_NUM_PROBES = 8


def shrink(model: nn.Module, mask: Mask, input_shape: tuple[int, ...]) -> nn.Module:
    """Return a smaller model of the same class tree whose outputs are those of the masked model.

    The same outputs in eval mode, that is: batch normalisation uses its running statistics.

    A channel is taken out if nothing alive reads it (all its columns are zero), or if it is exactly
    zero for every image: its filters and biases are zero and so is what its norms make of zero,
    `shift - mean * scale / sqrt(variance + epsilon)`. This is repeated until nothing changes, as a
    channel gone may leave others unread. One channel of a group always stays. A channel that is
    constant but not zero stays: where convolutions pad, no bias can stand in for it.

    Args:
        model: is not changed; its weights need not be masked yet.
        mask: which weights are there, of `filter`, `slimming` or any other method.
        input_shape: shape of one image, for the check of the outputs.

    Returns:
        A copy in the mode of `model`, without the masked channels.

    Raises:
        UserError: if the model declares no groups, the mask does not fit, a layer cannot be made
            smaller, or outputs differ by more than 1e-5 of the largest (float32): an activation
            that depends on the number of channels, or groups that do not fit the model.
    """
    groups = channel_groups(model)
    if not groups:
        raise UserError(
            f"{type(model).__name__} has no hidden channels to remove (channel_groups() is empty)"
        )
    masked = copy.deepcopy(model)
    mask.apply_(masked)
    small = copy.deepcopy(masked)
    kept = living_channels(masked, groups)
    for group in groups:
        _take_out(small, group, kept[group.name])
    _check_outputs(masked, small, input_shape)
    return small


def living_channels(masked: nn.Module, groups: list[ChannelGroup]) -> Kept:
    """Return which channels of each group have to stay (see `shrink`).

    Args:
        masked: a model whose masked weights are zero.
    """
    values = {name: tensor.detach().clone() for name, tensor in masked.state_dict().items()}
    epsilons = {
        f"{name}.weight": float(module.eps)
        for name, module in masked.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    kept = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    while True:
        num_kept = sum(int(channels.sum()) for channels in kept.values())
        for group in groups:
            alive = _is_read(group, values) & ~_is_zero(group, values, epsilons)
            kept[group.name] &= alive.cpu()
            _erase(group, kept[group.name], values)
        if num_kept == sum(int(channels.sum()) for channels in kept.values()):
            break
    for channels in kept.values():
        channels[0] |= not bool(channels.any())
    return kept


def size_report(model: nn.Module, small: nn.Module) -> dict[str, Any]:
    """Return `parameters_before`, `parameters_after` and `channels`: group -> [before, after]."""
    after = {group.name: group.size for group in channel_groups(small)}
    return {
        "parameters_before": sum(parameter.numel() for parameter in model.parameters()),
        "parameters_after": sum(parameter.numel() for parameter in small.parameters()),
        "channels": {
            group.name: [group.size, after[group.name]] for group in channel_groups(model)
        },
    }


def _is_read(group: ChannelGroup, values: Mapping[str, Tensor]) -> Tensor:
    """Say for each channel whether a weight that reads it is not zero."""
    read = torch.zeros(group.size, dtype=torch.bool)
    for name, repeat in group.inputs:
        columns = (values[name] != 0).transpose(0, 1).flatten(1).any(1)
        read |= columns.view(group.size, repeat).any(1).cpu()
    return read


def _is_zero(
    group: ChannelGroup, values: Mapping[str, Tensor], epsilons: Mapping[str, float]
) -> Tensor:
    """Say for each channel whether it is exactly zero whatever the image."""
    zero = torch.ones(group.size, dtype=torch.bool)
    of_norms = {
        f"{name.rpartition('.')[0]}.{key}"
        for name in group.outputs
        if name in epsilons
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    for name in group.outputs:
        if name in epsilons:
            constant = _norm_of_zero(name, values, epsilons[name])
            zero &= (constant == 0).cpu()
        elif name not in of_norms:
            zero &= (values[name].reshape(group.size, -1) == 0).all(1).cpu()
    return zero


def _norm_of_zero(scale: str, values: Mapping[str, Tensor], epsilon: float) -> Tensor:
    owner = scale.rpartition(".")[0]
    if f"{owner}.running_var" not in values:
        raise UserError(f"{owner!r} normalises without running statistics; it cannot be shrunk")
    deviation = (values[f"{owner}.running_var"] + epsilon).sqrt()
    return values[f"{owner}.bias"] - values[f"{owner}.running_mean"] * values[scale] / deviation


def _erase(group: ChannelGroup, kept: Tensor, values: Mapping[str, Tensor]) -> None:
    """Set everything a removed channel has, and what reads it, to zero."""
    for name in group.outputs:
        values[name][~kept.to(values[name].device)] = 0
    for name, repeat in group.inputs:
        values[name][:, ~kept.to(values[name].device).repeat_interleave(repeat)] = 0


def _take_out(model: nn.Module, group: ChannelGroup, kept: Tensor) -> None:
    for name in group.outputs:
        _select(model, name, kept, dim=0)
    for name, repeat in group.inputs:
        _select(model, name, kept.repeat_interleave(repeat), dim=1)


def _select(model: nn.Module, name: str, kept: Tensor, *, dim: int) -> None:
    """Keep some entries of a parameter or buffer, and tell its layer how many there are."""
    path, _, key = name.rpartition(".")
    layer = model.get_submodule(path)
    tensor = getattr(layer, key)
    chosen = tensor.detach()[(slice(None),) * dim + (kept.to(tensor.device),)].clone()
    if isinstance(tensor, nn.Parameter):
        chosen = nn.Parameter(chosen, requires_grad=tensor.requires_grad)
    setattr(layer, key, chosen)
    number = int(kept.sum())
    if isinstance(layer, nn.Conv2d) and layer.groups == 1:
        setattr(layer, "in_channels" if dim else "out_channels", number)
    elif isinstance(layer, nn.Linear):
        setattr(layer, "in_features" if dim else "out_features", number)
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = number
    else:
        raise UserError(
            f"{name!r} belongs to {type(layer).__name__}, which shrink cannot make smaller; it "
            "knows Conv2d without groups, Linear and BatchNorm"
        )


@torch.no_grad()
def _check_outputs(masked: nn.Module, small: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Compare both models in eval mode on a few random images, on the CPU (no reduced precision).

    Raises:
        UserError: if they differ.
    """
    x = torch.rand((_NUM_PROBES, *input_shape), generator=torch.Generator().manual_seed(0))
    expected, found = (copy.deepcopy(m).cpu().eval()(x) for m in (masked, small))
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= _TOLERANCE * max(1.0, largest):
        raise UserError(
            f"the smaller model's outputs differ by {difference:g} (the largest is {largest:g}): "
            "an activation depends on the number of channels or on more than their values, "
            "channel_groups() does not fit the model, or weights are not finite. Keep it masked"
        )
