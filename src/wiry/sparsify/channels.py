"""Which channels to remove: what `filter` and `slimming` share, from scores a channel to a mask.

A channel goes in all places of its group at once (`wiry.core.channels`), so the mask also holds
biases and norm parameters. What a score is, is told by the methods.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup, channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask, density, num_alive, prunable
from wiry.core.state import SparseState

Scope = Literal["layerwise", "global"]


def select_channels(
    model: nn.Module,
    state: SparseState,
    scores: Mapping[str, Float[Tensor, " channels"]],
    *,
    sparsity: float,
    scope: Scope,
) -> Mask:
    """Remove channels, the smallest scores first, until no more weights are left than asked for.

    Weights that the start mask left out stay so. A channel's removal takes its rows and the columns
    that read it, so the last step may remove somewhat more than asked.

    Args:
        scores: one a channel, by name of the group; larger = keep.
        sparsity: share of the prunable weights to remove, in [0, 1).
        scope: `layerwise` takes the same share of the channels of every group, `global` ranks all
            channels together.

    Returns:
        A mask of every parameter that the groups name, and of what the start mask holds.

    Raises:
        UserError: if the model has no groups, a score is not finite, or the target cannot be
            reached while every group keeps one channel.
    """
    groups = channel_groups(model)
    total = sum(p.numel() for p in prunable(model).values())
    num_keep = total - round(sparsity * total)
    order = removal_order(groups, scores, scope)

    def mask_after(num_removed: int) -> Mask:
        kept = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
        for name, channel in order[:num_removed]:
            kept[name][channel] = False
        return mask_of_channels(model, groups, kept, state.mask)

    smallest = mask_after(len(order))
    if num_alive(model, smallest) > num_keep:
        reachable = 1 - density(model, smallest)
        raise UserError(
            f"a sparsity of {sparsity:g} cannot be reached by removing channels: with one channel "
            f"left in each group it is {reachable:.4f}, at which {num_alive(model, smallest)} of "
            f"{total} weights remain. Ask for less, or take a wider model or a method for single "
            "weights"
        )
    low, high = 0, len(order)  # least number of removals that suffices, by halving
    while low < high:
        middle = (low + high) // 2
        if num_alive(model, mask_after(middle)) <= num_keep:
            high = middle
        else:
            low = middle + 1
    return mask_after(low)


def removal_order(
    groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor], scope: Scope
) -> list[tuple[str, int]]:
    """Return (group, channel) in the order of removal; the best of each group is not in it.

    Ties keep the lower channel. In a global ranking, ties between groups take equal shares.

    Raises:
        UserError: if a score is not finite.
    """
    ranked: list[tuple[float, float, str, int]] = []
    for group in groups:
        values = scores[group.name].detach().double().cpu()
        assert values.shape == (group.size,), f"scores of {group.name!r} do not fit"
        if not bool(values.isfinite().all()):
            raise UserError(
                f"scores of {group.name!r} are not finite: the weights have diverged; "
                "lower the learning rate"
            )
        best_first = torch.sort(values, descending=True, stable=True).indices.tolist()
        for place, channel in enumerate(best_first[1:], start=1):
            share = (group.size - place) / group.size  # of the group, gone with this channel
            first = share if scope == "layerwise" else float(values[channel])
            ranked.append((first, share, group.name, channel))
    return [(name, channel) for _, _, name, channel in sorted(ranked, key=lambda row: row[:2])]


def mask_of_channels(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, Bool[Tensor, " channels"]],
    start: Mask,
) -> Mask:
    """Return the mask without the rows and columns of the channels that are not kept.

    It covers every parameter the groups name, biases and norms too (buffers such as running
    statistics are no parameters), and what `start` holds.
    """
    parameters = dict(model.named_parameters())
    entries = dict(start)

    def keep(name: str, along: Tensor) -> None:
        before = entries.get(name, torch.ones((), dtype=torch.bool, device=along.device))
        entries[name] = (before & along).expand_as(parameters[name])

    for group in groups:
        for name in (name for name in group.outputs if name in parameters):
            rows = kept[group.name].to(parameters[name].device)
            keep(name, rows.view(-1, *[1] * (parameters[name].dim() - 1)))
        for name, repeat in group.inputs:
            columns = kept[group.name].to(parameters[name].device).repeat_interleave(repeat)
            keep(name, columns.view(1, -1, *[1] * (parameters[name].dim() - 2)))
    return Mask({name: value.contiguous() for name, value in entries.items()})


def removed_channels(model: nn.Module, mask: Mask) -> dict[str, Bool[Tensor, " channels"]]:
    """Return which channels a mask removes whole, by group.

    Removed whole means that no parameter of its rows and no weight that reads it is kept.
    """
    parameters = dict(model.named_parameters())
    found = {}
    for group in channel_groups(model):
        left = torch.zeros(group.size, dtype=torch.bool)
        for name in (name for name in group.outputs if name in parameters):
            rows = (
                mask[name].reshape(group.size, -1).any(1)
                if name in mask
                else torch.ones(group.size)
            )
            left |= rows.bool().cpu()
        for name, repeat in group.inputs:
            if name in mask:
                columns = mask[name].transpose(0, 1).flatten(1).any(1)
                left |= columns.view(group.size, repeat).any(1).cpu()
            else:
                left |= True
        found[group.name] = ~left
    return found
