"""Which classes a targeted search goes to: the likeliest wrong ones of the clean image, in turn.

Auto-PGD and FAB share it. A search towards several classes can be cut into one attack a class, so
that the images which the first leaves of all batches are pooled before the second.
"""

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def wrong_classes(
    clean: Float[Tensor, "n classes"],
    y: Int[Tensor, " n"],
    *,
    num_targets: int,
    target_rank: int | None,
) -> list[Int[Tensor, " n"]]:
    """Return the classes to go to, one an image for each search; none beyond the last wrong one.

    Args:
        clean: logits of the clean images, which rank the wrong classes.
        num_targets: how many of the likeliest.
        target_rank: only this one of them, 0 for the likeliest.
    """
    others = clean.scatter(1, y[:, None], -torch.inf)
    num_wrong = clean.shape[1] - 1
    last = num_targets if target_rank is None else target_rank + 1
    ranked = list(others.topk(min(last, num_wrong), dim=1).indices.T)
    return ranked if target_rank is None else ranked[target_rank:]


def by_target(attack: Any, num_classes: int) -> tuple[Any, ...]:
    """Return a copy of the attack for each class that it goes to, the likeliest first."""
    if attack.target_rank is not None:
        return (attack,)
    count = min(attack.num_targets, num_classes - 1)
    return tuple(dataclasses.replace(attack, target_rank=rank) for rank in range(count))


def check_rank(target_rank: int | None) -> None:
    """Check the optional rank of the only target.

    Raises:
        ValueError: if it is below 0.
    """
    if target_rank is not None and target_rank < 0:
        raise ValueError(f"target_rank must be at least 0, the likeliest, got {target_rank}")
