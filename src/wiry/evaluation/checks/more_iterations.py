"""Do more iterations break what the evaluation left? Then it stopped too early."""

from typing import Any

from wiry.core.registry import registry
from wiry.evaluation.checks.short_attacks import (
    MIN_IMAGES,
    accuracy_at_stake,
    advice,
    can_attack,
    is_thorough,
    strong,
    strong_fooled,
    survivors,
)
from wiry.evaluation.subject import Finding, Severity, Subject

_AT_STAKE = 0.02  # of accuracy: worth knowing
_MUCH = 0.08  # of accuracy; from PGD with 20 steps to AutoAttack, sound networks lose 0.04 to 0.09
_MANY = 0.25  # of the images that stood, where few did
_FEW_STEPS = 10  # PGD of training has ten (Madry et al. 2018)
_SINGLE = ("fgsm", "rfgsm")


@registry("check").register("more-iterations")
def more_iterations(subject: Subject) -> Finding | None:
    """Report images that stood in the evaluation and fall to PGD with more steps and restarts.

    Evaluations with AutoAttack's attacks are not looked at.

    Source: Carlini et al. 2019 (attacks must have converged).
    """
    if is_thorough(subject) or not can_attack(subject) or len(survivors(subject)) == 0:
        return None
    fallen, total = int(strong_fooled(subject).sum()), len(survivors(subject))
    at_stake = accuracy_at_stake(subject, fallen)
    steps = _most_steps(subject.attacks)
    evidence = {"fooled": fallen / total, "images": total, "at_stake": at_stake, "steps": steps}
    if fallen >= MIN_IMAGES and at_stake >= _AT_STAKE:
        return Finding(
            "more-iterations",
            severity_of(at_stake, fallen / total),
            f"Of {total} images that stood, {fallen} fell to PGD on the margin with "
            f"{strong(subject).steps} steps and a restart: the robust accuracy is too "
            f"high by about {100 * at_stake:.0f} points. {advice(subject)}.",
            evidence,
        )
    if steps is not None and steps < _FEW_STEPS:
        return Finding(
            "more-iterations",
            "note",
            f"The strongest of the attacks takes {steps} gradient step{'s' * (steps > 1)}; its "
            f"robust accuracy is an upper bound that may be far off. {advice(subject)}.",
            evidence,
        )
    return None


def severity_of(at_stake: float, share: float) -> Severity:
    """Return how grave it is that so much accuracy, or of what stood, is lost to more steps."""
    return "warning" if at_stake >= _MUCH or share >= _MANY else "note"


def _most_steps(attacks: tuple[Any, ...]) -> int | None:
    """Return the largest number of gradient steps of an attack; None if one is of another kind."""
    most = 0
    for attack in attacks:
        name = getattr(attack, "registered_name", None)
        if name in _SINGLE:
            most = max(most, 1)
        elif name == "pgd":
            most = max(most, attack.steps * attack.restarts)
        else:
            return None
    return most or None
