"""The allocation of Bayesian connectivity sampling: dense ends, a thin middle.

By position in the network rather than by name, so that it fits any model. Counts are exact as those
of `allocate`, where the other allocations are.
"""

from collections.abc import Mapping

from torch import Tensor

from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.sparsify.allocate import capacities, check_enough, split_budget


@registry("allocation").register("dense-ends")
def dense_ends(
    scores: Mapping[str, Tensor],
    alive: Mask,
    num_keep: int,
    *,
    first: float = 0.6,
    early: float = 0.2,
    rest: float = 0.5,
    last: float = 0.6,
    early_share: float = 0.25,
) -> dict[str, int]:
    """Keep most of the first and the last layer, some of the early ones, few of the rest.

    Source: the code of Ozdenizci & Legenstein 2021 (first convolution and classifier 0.6, early
    layers 0.2, in wide residual networks 0.1, the rest half the global density; what is missing in
    proportion to layer size). Differs: layers are told by position, for VGG-16 the second
    convolution counts as early; where the dense layers alone exceed the budget they are scaled
    down together, where the original starts above its budget.

    Args:
        first: density of the first layer, in [0, 1].
        early: density of the other layers among the first `early_share` of all.
        rest: density of the rest, as a share of the global density.
        last: density of the last layer.
        early_share: share of the layers that are early, the first one included.

    Raises:
        ValueError: if a number is outside [0, 1].
    """
    for name, value in (("first", first), ("early", early), ("rest", rest), ("last", last)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value:g}")
    if not 0 <= early_share <= 1:
        raise ValueError(f"early_share must be in [0, 1], got {early_share:g}")
    limits = capacities(scores, alive)
    check_enough(limits, num_keep)
    names = list(scores)
    sizes = {name: value.numel() for name, value in scores.items()}
    density = num_keep / sum(sizes.values())
    ends = {name: early for name in names[1 : round(early_share * len(names))]}
    ends |= {names[0]: first, names[-1]: last}
    dense = {name: sizes[name] * value for name, value in ends.items()}
    thin = {name: sizes[name] * rest * density for name in names if name not in ends}
    asked = sum(dense.values()) + sum(thin.values())
    if asked > num_keep:
        scale = (num_keep - sum(thin.values())) / sum(dense.values())
        shares = {name: thin[name] if name in thin else dense[name] * scale for name in names}
        return split_budget(shares, limits, num_keep)
    counts = {n: min(limits[n], int(dense[n] if n in dense else thin[n])) for n in names}
    left = {name: limits[name] - counts[name] for name in names}
    more = split_budget(sizes, left, num_keep - sum(counts.values()))
    return {name: counts[name] + more[name] for name in names}
