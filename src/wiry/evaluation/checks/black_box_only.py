"""Were there only attacks without gradients? Then the robust accuracy says little."""

from wiry.core.registry import registry
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("black-box-only")
def black_box_only(subject: Subject) -> Finding | None:
    """Report an evaluation in which no attack looked at a gradient.

    Source: Carlini et al. 2019, section 3.2 (an attacker who knows the network is the standard).
    """
    names = [getattr(attack, "registered_name", repr(attack)) for attack in subject.attacks]
    if not names or any(getattr(a, "uses_gradient", True) for a in subject.attacks):
        return None
    return Finding(
        "black-box-only",
        "warning",
        f"Black box only: {', '.join(names)} sees no gradient. Attackers who know the network do "
        "better, so the robust accuracy is an upper bound that may be far too high. Judge the "
        "PyTorch network with 'autoattack' where there is one.",
        {"attacks": names},
    )
