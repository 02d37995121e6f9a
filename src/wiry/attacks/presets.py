"""Which attacks to use for what: training, choosing on validation, and the final word.

Plain functions that return attacks; recipes name attacks themselves and do not go through here.
"""

from collections.abc import Sequence
from typing import cast

from wiry.attacks.apgd import APGD
from wiry.attacks.base import Attack, Norm
from wiry.attacks.fab import FAB
from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square


def autoattack(eps: float, norm: str = "linf", version: str = "standard") -> tuple[Attack, ...]:
    """Return the attacks of AutoAttack, to be run as a cascade: each on what the earlier ones left.

    `standard`: Auto-PGD on the cross-entropy, Auto-PGD on the targeted difference-of-logits ratio
    and FAB towards nine classes each, Square with 5,000 queries. `plus`: Auto-PGD on both losses
    with five restarts, FAB on the nearest of all classes with five restarts, Square, then the two
    targeted ones. `rand`, for networks that are random themselves: Auto-PGD on both losses, each
    look averaged over twenty passes. In l1 `standard` has five restarts on the cross-entropy and
    five targets of Auto-PGD.

    Source: Croce and Hein 2020 (AutoAttack) and, for l1, 2021, with the budgets of their published
    code. Differs: fooled images leave at once; Square's windows shrink over its 5,000 queries as
    the paper's over 10,000, where that code stops half way; in l1 Auto-PGD begins in larger balls
    in every version, not in `standard` only; see the attacks.

    Raises:
        ValueError: for a radius, a norm or a version that it does not have.
    """
    norm = cast(Norm, norm)
    targeted = (APGD(eps, norm, loss="targeted-dlr"), FAB(eps, norm))
    if version == "standard" and norm == "l1":
        few = APGD(eps, norm, loss="targeted-dlr", num_targets=5)
        return (APGD(eps, norm, restarts=5), few, FAB(eps, norm), Square(eps, norm))
    if version == "standard":
        return (APGD(eps, norm), *targeted, Square(eps, norm))
    if version == "plus":
        return (
            APGD(eps, norm, restarts=5),
            APGD(eps, norm, loss="dlr", restarts=5),
            FAB(eps, norm, targeted=False, restarts=5),
            Square(eps, norm),
            *targeted,
        )
    if version == "rand":
        return tuple(APGD(eps, norm, loss=loss, num_passes=20) for loss in ("ce", "dlr"))
    raise ValueError(f"version must be 'standard', 'plus' or 'rand', got {version!r}")


def protocol_of(attacks: Sequence[Attack], *, cascade: bool) -> str | None:
    """Return `AutoAttack (VERSION)` if a list of attacks is just that, else None."""
    if not cascade or not attacks:
        return None
    first = attacks[0]
    if first.norm not in ("linf", "l2", "l1"):
        return None
    for version in ("standard", "plus", "rand"):
        if tuple(attacks) == autoattack(first.eps, first.norm, version):
            return f"AutoAttack ({version})"
    return None


def screen(eps: float, norm: str = "linf") -> tuple[Attack, ...]:
    """Return a cheap evaluation for choosing among models on validation images.

    PGD-20 on the margin, one random start; fooled images stop at once. It is stronger than PGD-10
    of training, and other than the attack that was trained against, but no final word.

    Raises:
        ValueError: for a radius or a norm that the attack does not have.
    """
    return (PGD(eps, cast(Norm, norm), steps=20, loss="margin", drop_fooled=True),)


def training(eps: float, norm: str = "linf") -> Attack:
    """Return the attack of adversarial training: PGD-10 with steps of eps / 4.

    Source: Madry et al. 2018, CIFAR-10 (eps 8/255 with steps of 2/255).

    Raises:
        ValueError: for a radius or a norm that the attack does not have.
    """
    return PGD(eps, cast(Norm, norm), steps=10)  # 2.5 eps / 10 is eps / 4
