"""A network without its weakest channels, of about as many weights as the sparse one has.

What channel pruning would give at the same size, before it is trained; the weights that are left
out of the sparse network are filled, because a dense engine multiplies them like others.
"""

from typing import Any

import torch
from torch import Tensor, nn

from wiry.bench.subject import Subject
from wiry.core.channels import ChannelGroup, channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.export.shrink import shrink

_STEPS = 30  # halvings: the share of channels to a billionth


def with_few_channels(subject: Subject) -> Subject:
    """Return the channel-pruned network; the same share of every group is kept.

    Raises:
        UserError: if the model declares no channels that could be taken out.
    """
    groups = channel_groups(subject.model)
    if not groups:
        raise UserError("the network has no hidden channels to take out")
    target = subject.num_nonzero()
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        enough = _mask_of(subject.model, groups, middle).num_kept() > target
        low, high = (low, middle) if enough else (middle, high)
    mask = _mask_of(subject.model, groups, low)
    small = shrink(subject.model, mask, subject.input_shape)
    return Subject(small, Mask(), subject.input_shape, subject.images)


def _mask_of(model: nn.Module, groups: list[ChannelGroup], share: float) -> Mask:
    """Return which weights are left if a share of each group's channels is kept."""
    weights = prunable(model)
    kept = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()}
    for group in groups:
        channels = _strongest(group, weights, share)
        for name in group.outputs:
            if name in kept:
                kept[name][~channels] = False
        for name, repeat in group.inputs:
            if name in kept:
                kept[name][:, ~channels.repeat_interleave(repeat)] = False
    return Mask(kept)


def _strongest(group: ChannelGroup, weights: dict[str, Any], share: float) -> Tensor:
    strength = torch.zeros(group.size)
    for name in group.outputs:
        if name in weights:
            strength += weights[name].detach().abs().flatten(1).sum(1)
    number = max(1, round(share * group.size))
    channels = torch.zeros(group.size, dtype=torch.bool)
    channels[strength.topk(number).indices] = True
    return channels
