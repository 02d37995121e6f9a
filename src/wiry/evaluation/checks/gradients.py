"""Do attacks get a gradient to follow? Without one, an image stands however weak it is."""

from typing import Any

from torch import Tensor

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import (
    Gradients,
    attacked,
    clean_logits,
    gradients,
    in_range,
    says_one_class,
)
from wiry.evaluation.checks.short_attacks import advice
from wiry.evaluation.subject import Finding, Severity, Subject

_SHARE = 0.1  # of the images; a few flat spots are found in sound networks, sparse ones above all
_NEARLY_ALL = 0.9
_TINY = 1e-12  # attacks in l2 and l1 divide by the length, but not by less than this
_BY_LOGITS = ("fab", "square", "deepfool", "fmn")  # attacks without a choice of the loss
_CALL = "Only attacks that need none (square, which autoattack has) count there"


@registry("check").register("gradients")
def check_gradients(subject: Subject) -> Finding | None:
    """Report gradients on the input that are missing, not finite, or zero on a share of images.

    Source: Athalye et al. 2018 (obfuscated gradients), section 3.1.
    """
    is_attacked = bool(subject.attacks) or bool(subject.eps)
    if not is_attacked or not in_range(subject) or clean_logits(subject) is None:
        return None
    if len(attacked(subject)) == 0 or says_one_class(subject):
        return None  # nothing to attack; see the check "chance"
    found = gradients(subject)
    if isinstance(found, str):
        return _finding(
            "warning" if _goes_without(subject) else "error",
            f"The network gives no gradient on its input ({found}). {_CALL}; for others "
            "take no_grad, detach and conversions to numpy out of it.",
            {"differentiable": False},
        )
    return _judged(subject, found)


def _judged(subject: Subject, found: Gradients) -> Finding | None:
    num = len(attacked(subject))
    broken = ~(found.cross_entropy.isfinite().all(1) & found.margin.isfinite().all(1))
    if bool(broken.any()):
        return _finding(
            "error",
            f"Gradients on the input are not finite on {int(broken.sum())} of {num} images, so "
            "steps along them lead nowhere. Look for a division by zero, a square root at zero "
            "or an overflow in the network.",
            {"non_finite": _share(broken), "images": num},
        )
    by_margin, by_entropy = _is_zero(subject, found.margin), _is_zero(subject, found.cross_entropy)
    evidence = {"zero_margin": _share(by_margin), "zero_cross_entropy": _share(by_entropy)}
    evidence["images"] = num
    if _share(by_margin) >= _SHARE:
        most = _share(by_margin) >= _NEARLY_ALL
        return _finding(
            "error" if most and not _goes_without(subject) else "warning",
            f"The gradient of the logits is zero on {int(by_margin.sum())} of {num} images "
            f"(rounding, thresholds, dead units): gradient attacks start blind there. {_CALL}.",
            evidence,
        )
    if _share(by_entropy) >= _SHARE:
        return _finding(
            "note" if any(_sees_logits(attack) for attack in subject.attacks) else "warning",
            f"The gradient of the cross-entropy is zero on {int(by_entropy.sum())} of {num} "
            "images, because the network is too sure of them. Attacks on the cross-entropy are "
            f"blind there. {advice(subject)}, or with PGD and loss 'margin'.",
            evidence,
        )
    return None


def _is_zero(subject: Subject, gradient: Tensor) -> Tensor:
    if subject.norm == "linf":  # only the signs count
        return gradient.abs().amax(1) == 0
    return gradient.norm(dim=1) < _TINY


def _goes_without(subject: Subject) -> bool:
    """Say whether one of the attacks needs no gradient."""
    return any(not getattr(attack, "uses_gradient", True) for attack in subject.attacks)


def _sees_logits(attack: Any) -> bool:
    """Say whether an attack goes by the logits and not by the cross-entropy alone."""
    named = getattr(attack, "registered_name", None) in _BY_LOGITS
    return named or getattr(attack, "loss", "ce") != "ce"


def _share(flags: Tensor) -> float:
    return float(flags.float().mean())


def _finding(severity: Severity, message: str, evidence: dict[str, Any]) -> Finding:
    return Finding("gradients", severity, message, evidence)
