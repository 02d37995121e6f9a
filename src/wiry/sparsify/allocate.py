"""How a budget is split over layers: functions from (scores, what is alive, total) to exact counts.

Every allocation returns counts that add up to `num_keep` and never exceed what is alive in a layer.
"""

import fnmatch
from collections.abc import Mapping

import torch
from torch import Tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.sparsify.select import keep_largest, restrict


@registry("allocation").register("global")
def global_(scores: Mapping[str, Tensor], alive: Mask, num_keep: int) -> dict[str, int]:
    """Keep the largest scores wherever they are: one ranking over all layers."""
    check_enough(capacities(scores, alive), num_keep)
    restricted = restrict(scores, alive)
    kept = keep_largest(torch.cat([value.flatten() for value in restricted.values()]), num_keep)
    parts = kept.split([value.numel() for value in restricted.values()])
    return {name: int(part.sum()) for name, part in zip(restricted, parts, strict=True)}


@registry("allocation").register("layerwise")
def layerwise(scores: Mapping[str, Tensor], alive: Mask, num_keep: int) -> dict[str, int]:
    """Give every layer the same density (also called uniform)."""
    return split_budget(
        {name: value.numel() for name, value in scores.items()}, capacities(scores, alive), num_keep
    )


@registry("allocation").register("erk")
def erk(scores: Mapping[str, Tensor], alive: Mask, num_keep: int) -> dict[str, int]:
    """Make the density of a layer proportional to (sum of dimensions) / (product of dimensions).

    Source: Erdos-Renyi-Kernel of Evci et al. 2020 (RigL). A layer whose share exceeds its size is
    dense and the rest is split again, so the total is exact.
    """
    return split_budget(
        {name: sum(value.shape) for name, value in scores.items()},
        capacities(scores, alive),
        num_keep,
    )


@registry("allocation").register("table")
def table(
    scores: Mapping[str, Tensor], alive: Mask, num_keep: int, *, weights: dict[str, float]
) -> dict[str, int]:
    """Split the budget in proportion to given relative densities per layer.

    Args:
        weights: relative density by layer name or pattern (`"conv*.weight": 2.0`); the first match
            counts.

    Raises:
        UserError: if a layer matches no pattern.
    """
    shares = {}
    for name, value in scores.items():
        match = next(
            (w for pattern, w in weights.items() if fnmatch.fnmatchcase(name, pattern)), None
        )
        if match is None:
            raise UserError(
                f"allocation 'table' has no entry for layer {name!r}; add it or a '*' entry"
            )
        shares[name] = match * value.numel()
    return split_budget(shares, capacities(scores, alive), num_keep)


def capacities(scores: Mapping[str, Tensor], alive: Mask) -> dict[str, int]:
    """Return how many entries each layer may keep."""
    return {
        name: int(alive[name].sum()) if name in alive else value.numel()
        for name, value in scores.items()
    }


def check_enough(limits: Mapping[str, int], total: int) -> None:
    """Check that there are `total` weights to keep.

    Raises:
        UserError: if not: pruning never brings a weight back.
    """
    if total > (left := sum(limits.values())):
        raise UserError(
            f"asked to keep {total} weights, but the start mask leaves {left}; "
            "ask for a higher sparsity or start from a denser mask"
        )


def split_budget(
    shares: Mapping[str, float], limits: Mapping[str, int], total: int
) -> dict[str, int]:
    """Split `total` in proportion to `shares`, no part above its limit, by largest remainders.

    Raises:
        UserError: if the limits together are below `total` or no share is positive.
    """
    check_enough(limits, total)
    open_names, left = set(shares), total
    parts: dict[str, float] = {}
    while open_names:
        weight = sum(shares[name] for name in open_names)
        if weight <= 0 and left > 0:
            raise UserError("the allocation gives no layer a positive share; give some layers more")
        full = {n for n in open_names if weight > 0 and shares[n] / weight * left >= limits[n]}
        if not full:
            parts |= {n: shares[n] / weight * left if weight else 0.0 for n in open_names}
            break
        parts |= {name: float(limits[name]) for name in full}
        left -= sum(limits[name] for name in full)
        open_names -= full
    counts = {name: int(parts[name]) for name in shares}
    by_remainder = sorted(shares, key=lambda name: counts[name] - parts[name])
    missing = total - sum(counts.values())
    for name in by_remainder * 2:
        if missing > 0 and counts[name] < limits[name]:
            counts[name], missing = counts[name] + 1, missing - 1
    assert missing == 0, "largest remainders leave at most one unit a layer"
    return counts
