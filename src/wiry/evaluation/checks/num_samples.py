"""Are there images enough for what is to be read from them?"""

import math
import statistics

from wiry.core.registry import registry
from wiry.evaluation.interval import wilson
from wiry.evaluation.subject import Finding, Subject

_FEW = 100  # images; below, an accuracy is known to ten points either way at best
_QUANTILE = statistics.NormalDist().inv_cdf(0.975)  # of a 95 % interval


@registry("check").register("num-samples")
def num_samples(subject: Subject) -> Finding | None:
    """Report too few images for the claimed difference of two accuracies, or for an accuracy.

    Two networks that err independently are assumed: the interval of a difference has the variances
    of both. Networks that err on the same images need fewer, if compared image by image.
    """
    num = len(subject.x)
    if num == 0:
        return None
    correct = subject.clean_correct.sum().item()
    if subject.table is not None and subject.table.by_attack:
        correct = int(subject.table.robust.sum())
    if subject.claim is not None:
        return _of_claim(correct / num, abs(subject.claim), num)
    low, high = wilson(correct, num)
    if num >= _FEW:
        return None
    return Finding(
        "num-samples",
        "note",
        f"{num} image{'s' * (num > 1)} say{'s' * (num == 1)} little: the accuracy of "
        f"{correct / num:.1%} may be anywhere from {low:.1%} to {high:.1%} (95 %). Take 1,000 or "
        "more for a result.",
        {"images": num, "low": low, "high": high},
    )


def _of_claim(accuracy: float, claim: float, num: int) -> Finding | None:
    variance = worst_variance(accuracy, claim)
    half_width = _QUANTILE * math.sqrt(variance / num)
    if claim >= half_width:
        return None
    needed = math.ceil(variance * (_QUANTILE / claim) ** 2) if claim else None
    enough = "No number of images would do" if needed is None else f"About {needed:,} would do"
    return Finding(
        "num-samples",
        "warning",
        f"A difference of {100 * claim:.3g} points cannot be read from {num:,} images, which "
        f"leave {100 * half_width:.2g} points to chance (95 %). {enough}, fewer where the "
        "networks are compared image by image.",
        {"claim": claim, "half_width": half_width, "images": num, "needed": needed},
    )


def worst_variance(accuracy: float, claim: float) -> float:
    """Return the variance, an image, of the difference from an accuracy `claim` away.

    The other accuracy is taken on the side on which it is nearer to a half.
    """
    others = [min(max(accuracy + sign * claim, 0.0), 1.0) for sign in (-1, 1)]
    return accuracy * (1 - accuracy) + max(other * (1 - other) for other in others)
