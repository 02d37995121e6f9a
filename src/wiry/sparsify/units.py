"""Keep or remove groups of weights as wholes: the selection behind blocks, columns and rows.

A layer's units are given as a tensor of labels in the shape of its weight: equal label, same unit.
What a unit is, is decided in `structure`; how the budget is split, by the allocation.
"""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask


@dataclasses.dataclass
class _Layer:
    """The units of a layer, best first.

    Attributes:
        labels: unit of each weight.
        alive: which weights there are.
        order: unit labels, best first; units without a living weight are left out.
        sizes: living weights of the units, by label.
        sums: scores of the units, by label.
        num_kept: how many of `order` are kept.
    """

    labels: Tensor
    alive: Tensor
    order: Tensor
    sizes: Tensor
    sums: Tensor
    num_kept: int = 0

    @classmethod
    def of(cls, labels: Tensor, scores: Tensor, alive: Tensor) -> "_Layer":
        if torch.isnan(scores).any():
            raise ValueError("scores contain NaN: the weights have diverged; lower the rate")
        # on the CPU: sums on an accelerator come in any order, and masks must come out equal
        flat, living = labels.cpu().flatten(), alive.cpu().flatten()
        values = scores.detach().cpu().double().flatten().masked_fill(~living, 0.0)
        num_units = int(flat.max()) + 1
        sums = torch.zeros(num_units, dtype=torch.double).index_add_(0, flat, values)
        sizes = torch.zeros(num_units, dtype=torch.long).index_add_(0, flat, living.long())
        order = sums.sort(descending=True, stable=True).indices
        return cls(flat.view(labels.shape), alive, order[sizes[order] > 0], sizes, sums)

    def spread(self) -> Tensor:
        """Return each weight's share of its unit's score; -inf where there is no weight."""
        means = self.sums / self.sizes.clamp(min=1)
        spread = means[self.labels].to(self.alive.device)
        return spread.masked_fill(~self.alive, float("-inf"))

    def total(self, num_units: int) -> int:
        return int(self.sizes[self.order[:num_units]].sum())

    def fit(self, count: int) -> None:
        """Keep the best units, in order, as long as they fit into `count` weights; at least one."""
        room = self.sizes[self.order].cumsum(0) <= count
        self.num_kept = max(int(room.sum()), min(1, len(self.order)))

    def mask(self) -> Tensor:
        kept = torch.zeros_like(self.sizes, dtype=torch.bool)
        kept[self.order[: self.num_kept]] = True
        return kept[self.labels].to(self.alive.device) & self.alive


def keep_units(
    units: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    alive: Mask,
    num_keep: int,
    allocate: Callable[[Mapping[str, Tensor], Mask, int], dict[str, int]],
) -> Mask:
    """Return a mask of whole units with at most `num_keep` weights, at least a unit in each layer.

    Within a layer units go by the sum of their scores. The allocation sees the mean over a unit's
    weights, so that long units do not draw the budget to their layer.

    Args:
        units: label of each weight's unit, by layer.

    Raises:
        UserError: if one unit a layer is more than `num_keep` already.
    """
    layers = {
        name: _Layer.of(units[name], value, alive.get(name, torch.ones_like(value).bool()))
        for name, value in scores.items()
    }
    counts = allocate({name: layer.spread() for name, layer in layers.items()}, alive, num_keep)
    for name, layer in layers.items():
        layer.fit(counts[name])
    _drop_surplus(layers, num_keep)
    return Mask({name: layer.mask() for name, layer in layers.items()})


def _drop_surplus(layers: Mapping[str, _Layer], num_keep: int) -> None:
    """Drop the units of least mean score until the budget holds, but never a layer's last one.

    There is a surplus only where a layer's part of the budget was less than one unit.
    """
    surplus = sum(layer.total(layer.num_kept) for layer in layers.values()) - num_keep
    while surplus > 0:
        several = [layer for layer in layers.values() if layer.num_kept > 1]
        if not several:
            raise UserError(
                f"one unit a layer has {num_keep + surplus} weights, but only {num_keep} may stay; "
                "ask for a lower sparsity, or smaller units"
            )
        weakest = min(several, key=_last_mean)
        surplus -= int(weakest.sizes[weakest.order[weakest.num_kept - 1]])
        weakest.num_kept -= 1


def _last_mean(layer: _Layer) -> float:
    """Return the mean score of the weights of the layer's last kept unit."""
    last = layer.order[layer.num_kept - 1]
    return float(layer.sums[last] / layer.sizes[last])
