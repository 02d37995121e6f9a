"""Does an attack without gradients find more than those with? Then the gradients hide something."""

import numpy as np

from wiry.attacks.square import Square
from wiry.core.registry import registry
from wiry.evaluation.checks.short_attacks import (
    MIN_IMAGES,
    ball_of,
    can_attack,
    fooled,
    is_thorough,
    strong_fooled,
    survivors,
)
from wiry.evaluation.subject import Finding, Subject
from wiry.evaluation.table import Table

_NUM_QUERIES = 100  # enough to break images whose gradients are hidden, not those that are robust
_SHARE_OF_ALL = 0.005  # in sound evaluations Square takes less from what white-box attacks left
_MIN_TAKEN = 2


@registry("check").register("black-box")
def black_box(subject: Subject) -> Finding | None:
    """Report images that only the Square Attack fooled, in the table or else in a short try.

    Source: Athalye et al. 2018, section 3.1 (black-box attacks are better than white-box ones).
    """
    blind = [not getattr(attack, "uses_gradient", True) for attack in subject.attacks]
    if any(blind) and not all(blind) and subject.table is not None:
        return _from_table(subject.table, blind)
    if any(blind) or subject.norm == "l1" or not can_attack(subject):
        return None  # nothing to compare with
    return _from_try(subject)


def _from_table(table: Table, blind: list[bool]) -> Finding | None:
    verdicts = list(table.by_attack.values())
    assert len(verdicts) == len(blind), "the attacks are those of the table"
    if table.cascade:  # each verdict holds those before it
        taken = np.zeros_like(table.clean_correct)
        for position in range(1, len(verdicts)):
            if blind[position]:
                taken |= verdicts[position - 1] & ~verdicts[position]
    else:
        pairs = list(zip(verdicts, blind, strict=True))
        left = np.logical_and.reduce([verdict for verdict, without in pairs if not without])
        taken = left & ~np.logical_and.reduce([verdict for verdict, without in pairs if without])
    count, total = int(taken.sum()), len(taken)
    if count < _MIN_TAKEN or count / total < _SHARE_OF_ALL:
        return None
    return Finding(
        "black-box",
        "warning",
        f"Square, which sees no gradient, fooled {count} of {total} images that attacks with "
        "gradients had left: gradients are hidden or zero, or those attacks were weak. The "
        "true robust accuracy may be lower still; look at the other findings, and try more "
        "queries and attacks made for this network.",
        {"only_square": count / total, "images": total},
    )


def _from_try(subject: Subject) -> Finding | None:
    index = survivors(subject)
    if not is_thorough(subject) and len(index):
        index = index[~strong_fooled(subject)]
    if len(index) < MIN_IMAGES:
        return None
    attack = Square(*ball_of(subject), num_queries=_NUM_QUERIES)
    count = int(fooled(subject, attack, index).sum())
    if count < MIN_IMAGES:
        return None
    return Finding(
        "black-box",
        "warning",
        f"Square, which sees no gradient, fooled {count} of {len(index)} images within "
        f"{_NUM_QUERIES} queries that attacks with gradients had left: gradients are hidden or "
        "zero, and the robust accuracy is too high. Evaluate with 'autoattack'.",
        {"only_square": count / len(index), "images": len(index), "queries": _NUM_QUERIES},
    )
