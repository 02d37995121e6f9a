"""Exact selection: the only place where scores become masks.

Thresholds break on ties; counts do not.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wiry.core.mask import Mask


def keep_largest(scores: Float[Tensor, "*shape"], num_keep: int) -> Bool[Tensor, "*shape"]:
    """Return a mask with exactly `num_keep` True entries, at the largest scores.

    Ties go to the lower flat index. Score -inf marks an entry that is not there: it is kept only if
    nothing else is left.

    Raises:
        ValueError: if `num_keep` is not between 0 and the number of scores, or a score is NaN.
    """
    flat = scores.detach().flatten()
    if not 0 <= num_keep <= flat.numel():
        raise ValueError(f"cannot keep {num_keep} of {flat.numel()} entries")
    if torch.isnan(flat).any():
        raise ValueError("scores contain NaN: the weights have diverged; lower the learning rate")
    if num_keep == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    cut = flat.kthvalue(flat.numel() - num_keep + 1).values  # a fifth of the time of a sort
    kept = flat > cut
    ties = (flat == cut).nonzero().flatten()
    kept[ties[: num_keep - int(kept.sum())]] = True
    return kept.view(scores.shape)


def keep_counts(scores: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
    """Return a mask that keeps `counts[name]` entries of each tensor, at its largest scores."""
    return Mask({name: keep_largest(value, counts[name]) for name, value in scores.items()})


def restrict(scores: Mapping[str, Tensor], alive: Mask) -> dict[str, Tensor]:
    """Return the scores with -inf where `alive` is False, so that pruning never revives one."""
    return {
        name: value.masked_fill(~alive[name], float("-inf")) if name in alive else value
        for name, value in scores.items()
    }
