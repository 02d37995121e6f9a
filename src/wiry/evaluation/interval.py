"""Confidence intervals of an accuracy on finitely many images and seeds; pure arithmetic."""

import math
import statistics
from collections.abc import Sequence


def wilson(num_correct: float, num: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of the share `num_correct / num`.

    Source: Wilson 1927; in the form of Brown, Cai and DasGupta 2001, equation 4.

    Args:
        num_correct: correct images in [0, num]; a mean over seeds need not be a whole number.
        num: images tested.
        confidence: share of intervals that cover the true accuracy, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: if `num` is below 1, or the count or the confidence is out of range.
    """
    _check(num, confidence)
    if not 0 <= num_correct <= num:
        raise ValueError(f"num_correct must be in [0, {num}], got {num_correct}")
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = num_correct / num, 1 + z * z / num
    center = (share + z * z / (2 * num)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    low = 0.0 if num_correct == 0 else max(0.0, center - half)
    high = 1.0 if num_correct == num else min(1.0, center + half)
    return low, high


def mean_interval(
    accuracies: Sequence[float], num: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the mean accuracy of several seeds tested on the same images.

    Two things vary: which images were drawn and which seed trained the model. For the images, the
    Wilson interval of the mean accuracy on `num` images is taken, not on seeds x images: the seeds
    see the same images. For the seeds, Student's t times the standard error of the mean. The two
    distances from the mean are added in quadrature on each side, and the ends kept in [0, 1].
    With one seed nothing is known of the seeds and the Wilson interval is returned.

    Args:
        accuracies: one accuracy a seed, in [0, 1].
        num: images tested, the same for each seed.
        confidence: share of intervals that cover the true mean, in (0, 1).

    Raises:
        ValueError: if there is no accuracy, one is outside [0, 1], or `num` is below 1.
    """
    _check(num, confidence)
    if not accuracies or not all(0 <= accuracy <= 1 for accuracy in accuracies):
        raise ValueError(f"accuracies must be one or more shares in [0, 1], got {accuracies}")
    mean = min(1.0, statistics.fmean(accuracies))
    low, high = wilson(mean * num, num, confidence)
    if len(accuracies) == 1:
        return low, high
    error = statistics.stdev(accuracies) / math.sqrt(len(accuracies))
    spread = student_quantile((1 + confidence) / 2, len(accuracies) - 1) * error
    return (
        max(0.0, mean - math.hypot(mean - low, spread)),
        min(1.0, mean + math.hypot(high - mean, spread)),
    )


def student_quantile(probability: float, num_degrees: int) -> float:
    """Return the quantile of Student's t with whole degrees of freedom, by bisection.

    Source: Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4 (the closed form of the
    probability in the angle atan(t / sqrt(degrees))).

    Args:
        probability: in [0.5, 1).
        num_degrees: degrees of freedom, 1 or more.
    """
    assert 0.5 <= probability < 1 and num_degrees >= 1
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if _probability_within(middle, num_degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(num_degrees)


def _probability_within(angle: float, num_degrees: int) -> float:
    odd = num_degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(odd, num_degrees - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _check(num: int, confidence: float) -> None:
    if num < 1:
        raise ValueError(f"an interval needs 1 image or more, got {num}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
