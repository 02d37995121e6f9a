"""Two networks on the same images: whether their accuracies differ, and by how much.

Pure arithmetic on the four counts of a pair of verdicts; no model, no table.
"""

import math

from wiry.evaluation.interval import wilson


def mcnemar(num_lost: int, num_gained: int) -> float:
    """Return the exact two-sided p-value of equal accuracies: could the flips be a fair coin's?

    Source: McNemar 1947, with the binomial distribution in place of chi-square.

    Args:
        num_lost: images that only the first network has right.
        num_gained: images that only the second has right.

    Raises:
        ValueError: if a count is negative.
    """
    if min(num_lost, num_gained) < 0:
        raise ValueError(f"counts must not be negative, got {num_lost} and {num_gained}")
    num, ways, tail = num_lost + num_gained, 1, 0
    for k in range(min(num_lost, num_gained) + 1):
        tail += ways
        ways = ways * (num - k) // (k + 1)
    return min(1.0, 2 * tail / 2**num)


def paired_interval(
    num_both: int, num_lost: int, num_gained: int, num_neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the second network's accuracy minus the first's on the same images.

    Source: Newcombe 1998 (paired data), method 10: the distances from the Wilson ends of the two
    accuracies, added in quadrature and corrected for their correlation.

    Args:
        num_both: images both have right.
        num_lost: only the first.
        num_gained: only the second.
        num_neither: none of the two.
        confidence: share of intervals that cover the true difference, in (0, 1).

    Returns:
        Lower and upper end, in [-1, 1].

    Raises:
        ValueError: if there is no image, or the confidence is out of range.
    """
    num = num_both + num_lost + num_gained + num_neither
    first, second = num_both + num_lost, num_both + num_gained
    low_1, high_1 = wilson(first, num, confidence)
    low_2, high_2 = wilson(second, num, confidence)
    share_1, share_2 = first / num, second / num
    phi = _correlation(num_both, num_lost, num_gained, num_neither)
    down = _joined(share_2 - low_2, high_1 - share_1, phi)
    up = _joined(high_2 - share_2, share_1 - low_1, phi)
    difference = share_2 - share_1
    return max(-1.0, difference - down), min(1.0, difference + up)


def _joined(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _correlation(a: int, b: int, c: int, d: int) -> float:
    """Return the correlation of two verdicts, shrunk where it is positive (Newcombe 1998)."""
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    excess = a * d - b * c
    if excess > 0:
        excess = max(excess - (a + b + c + d) / 2, 0)
    return excess / math.sqrt(product)
