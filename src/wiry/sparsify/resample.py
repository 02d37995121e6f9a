"""Draw absent links at random, at a cost that depends on how many are drawn, not on how many exist.

For methods that replace a few links at every step. Draws come from the sparsifier's own CPU stream.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

LISTED_BELOW = 0.25
"""Below this share of absent links they are listed: drawing until one is hit would take long."""


def spread_over_layers(
    num: int, sizes: Sequence[int], room: Sequence[int], generator: torch.Generator
) -> list[int]:
    """Draw for each of `num` links its layer, in proportion to the layers' sizes.

    Source: Ozdenizci & Legenstein 2021. Differs: what does not fit into a layer is drawn again
    over the others, where the original leaves it out.

    Args:
        sizes: weights of each layer.
        room: absent links of each layer; together at least `num`.
    """
    assert num <= sum(room), "there are not enough absent links"
    counts = torch.zeros(len(sizes), dtype=torch.int64)
    limits = torch.tensor(room)
    weights = torch.tensor(sizes, dtype=torch.float64)
    while (missing := num - int(counts.sum())) > 0:
        open_weights = torch.where(counts < limits, weights, 0.0)
        drawn = torch.multinomial(open_weights, missing, replacement=True, generator=generator)
        counts = torch.minimum(counts + drawn.bincount(minlength=len(sizes)), limits)
    return counts.tolist()


def draw_absent_(
    kept: Bool[Tensor, " n"], num: int, num_absent: int, generator: torch.Generator
) -> Int[Tensor, " num"]:
    """Draw `num` absent entries uniformly without replacement and mark them as kept.

    Where most entries are absent, as many places as are missing are drawn at a time and those that
    are absent are taken: the same distribution as drawing one by one.

    Args:
        kept: which entries are there; changed in place.
        num_absent: how many entries of `kept` are False.

    Returns:
        The places drawn.
    """
    assert num <= num_absent, "there are not enough absent links"
    if num_absent < LISTED_BELOW * kept.numel() or num > num_absent / 2:
        absent = (~kept).nonzero().squeeze(1)
        order = torch.randperm(num_absent, generator=generator)[:num]
        chosen = absent[order.to(kept.device)]
        kept[chosen] = True
        return chosen
    parts: list[Tensor] = []
    while num > 0:
        drawn = torch.randint(kept.numel(), (num,), generator=generator).to(kept.device).unique()
        taken = drawn[~kept[drawn]]
        kept[taken] = True
        parts.append(taken)
        num -= taken.numel()
    return torch.cat(parts) if parts else kept.new_zeros(0, dtype=torch.int64)
