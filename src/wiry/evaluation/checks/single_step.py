"""Is one step worth more than ten? Then the steps of PGD lose their way."""

from wiry.attacks.fgsm import FGSM
from wiry.core.registry import registry
from wiry.evaluation.checks.probe import attacked
from wiry.evaluation.checks.short_attacks import (
    MIN_IMAGES,
    advice,
    ball_of,
    can_attack,
    fooled,
    ordinary_fooled,
)
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("single-step")
def single_step(subject: Subject) -> Finding | None:
    """Report a network that FGSM fools more often than PGD within the same radius.

    Source: Athalye et al. 2018, section 3.1 (one-step attacks perform better than iterative ones).
    """
    if not can_attack(subject):
        return None
    attack = FGSM(*ball_of(subject))
    index = attacked(subject)
    once, often = int(fooled(subject, attack, index).sum()), int(ordinary_fooled(subject).sum())
    if once - often < MIN_IMAGES:
        return None
    return Finding(
        "single-step",
        "warning",
        f"One step (FGSM) fooled the network on {once} of {len(index)} images, ten steps (PGD) "
        f"with the same eps on only {often}: its gradients mislead, and the robust accuracy is "
        f"probably too high. {advice(subject)}, and look where gradients are cut or rounded.",
        {"fgsm": once / len(index), "pgd": often / len(index), "images": len(index)},
    )
