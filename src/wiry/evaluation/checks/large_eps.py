"""Does an attack succeed that may do nearly everything? If not, it is the attack that fails."""

import torch

from wiry.attacks.pgd import PGD
from wiry.core.registry import registry
from wiry.evaluation.checks.probe import attacked, says_one_class
from wiry.evaluation.checks.short_attacks import MIN_IMAGES, advice, ball_of, can_attack, fooled
from wiry.evaluation.subject import Finding, Subject

_LARGE = 0.5  # pixels: the plain grey image is in every such ball
_STEPS = 20
_SHARE = 0.2  # of the images; networks that are robust at 0.3 on MNIST keep a few against 20 steps


@registry("check").register("large-eps")
def large_eps(subject: Subject) -> Finding | None:
    """Report a network that PGD leaves right within a radius at which all images can be made equal.

    Source: Athalye et al. 2018, section 3.1 (unbounded attacks reach 100 % success).
    """
    if not can_attack(subject) or says_one_class(subject):
        return None  # one answer only cannot be changed; see the check "chance"
    eps, norm = ball_of(subject)
    eps = max(eps, large(norm, subject.x[0].numel()))
    attack = PGD(eps, norm, steps=_STEPS, loss="margin", drop_fooled=True)
    index = attacked(subject)
    left = int((~fooled(subject, attack, index)).sum())
    if left < MIN_IMAGES or left / len(index) <= _SHARE:
        return None
    return Finding(
        "large-eps",
        "warning",
        f"PGD left {left} of {len(index)} images right although it might move every pixel by "
        f"{_LARGE:g} ({norm} eps {eps:.4g}), enough to make all images equal. So the "
        "attack fails where images surely are not robust: look at the gradients. "
        f"{advice(subject)}.",
        {"standing": left / len(index), "eps": eps, "images": len(index)},
    )


def large(norm: str, num_pixels: int) -> float:
    """Return the radius in which every pixel may move by a half."""
    order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm]
    return float(torch.full((num_pixels,), _LARGE).norm(order))
