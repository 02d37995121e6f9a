"""Robustness of linear classifiers of two classes, exactly: r_2 and r_inf of Guo et al. 2018.

On data, in closed form for two Gaussian classes, and as Theorem 3.1 states it. Labels are -1 and 1,
points are vectors without bounds: nothing is clipped to [0, 1]. Networks are measured elsewhere.
"""

import math

from jaxtyping import Float
from torch import Tensor


def margins(
    weight: Float[Tensor, " d"],
    bias: float,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Return y (w'x + b) of each point; positive where the classifier is right.

    Raises:
        ValueError: if a label is neither -1 nor 1.
    """
    if not bool((y.abs() == 1).all()):
        raise ValueError("labels of a linear classifier are -1 and 1; map the two classes to them")
    return y * (x @ weight + bias)


def r_2(
    weight: Float[Tensor, " d"], bias: float, x: Float[Tensor, "n d"], y: Float[Tensor, " n"]
) -> float:
    """Return the mean l2 distance to the boundary, where wrong points count as 0.

    Source: Guo et al. 2018, section 3. For a linear classifier the nearest point of the boundary is
    known, so this is what an l2 attack of any strength finds. 0 for a weight of zeros.
    """
    length = float(weight.norm())
    if length == 0:
        return 0.0
    return float(margins(weight, bias, x, y).clamp_min(0).mean()) / length


def r_inf(
    weight: Float[Tensor, " d"],
    bias: float,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    *,
    eps: float,
) -> float:
    """Return the share of points that stay right under x - eps y sign(w): exact, not a bound.

    Source: Guo et al. 2018, section 3; the attack takes eps |w|_1 off every margin.
    """
    return float((margins(weight, bias, x, y) > eps * weight.abs().sum()).float().mean())


def gaussian_r_2(weight: Float[Tensor, " d"], mean: Float[Tensor, " d"], deviation: float) -> float:
    """Return `r_2` for x = y mean + deviation * noise, balanced labels, bias 0.

    The margin is normal with mean w'mean and deviation |w|_2 * deviation, and E[max(m, 0)] of a
    normal m is a Phi(a / s) + s phi(a / s).
    """
    centre, spread = _margin_moments(weight, mean, deviation)
    ratio = centre / spread
    positive = centre * _phi(ratio) + spread * math.exp(-ratio * ratio / 2) / math.sqrt(2 * math.pi)
    return positive / float(weight.norm())


def gaussian_r_inf(
    weight: Float[Tensor, " d"], mean: Float[Tensor, " d"], deviation: float, *, eps: float
) -> float:
    """Return `r_inf` for x = y mean + deviation * noise, bias 0: P(m > eps |w|_1)."""
    centre, spread = _margin_moments(weight, mean, deviation)
    return _phi((centre - eps * float(weight.abs().sum())) / spread)


def theorem_r_2(
    weight: Float[Tensor, " d"], bias: float, x: Float[Tensor, "n d"], y: Float[Tensor, " n"]
) -> float:
    """Return t w'(mu_1 - mu_-1) / (2 |w|_2), where mu_k is the mean of the correct points of k.

    Source: Guo et al. 2018, Theorem 3.1. It equals `r_2` where the classes are balanced and equally
    well classified, which is what the theorem assumes; then the bias cancels.
    """
    accuracy, apart = _correct_classes(weight, bias, x, y)
    return accuracy * apart / (2 * float(weight.norm()))


def theorem_r_inf(
    weight: Float[Tensor, " d"],
    bias: float,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    *,
    eps: float,
) -> float:
    """Return t w'(mu_1 - mu_-1) / (2 eps |w|_1): an upper bound of `r_inf`, by Markov.

    Source: Guo et al. 2018, Theorem 3.1, under the assumptions of `theorem_r_2`. Above 1 it says
    nothing.
    """
    accuracy, apart = _correct_classes(weight, bias, x, y)
    return accuracy * apart / (2 * eps * float(weight.abs().sum()))


def _correct_classes(weight: Tensor, bias: float, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the accuracy and w'(mu_1 - mu_-1)."""
    right = margins(weight, bias, x, y) > 0
    means = [x[right & (y == sign)].mean(0) for sign in (1, -1)]
    return float(right.float().mean()), float((means[0] - means[1]) @ weight)


def _margin_moments(weight: Tensor, mean: Tensor, deviation: float) -> tuple[float, float]:
    return float(weight @ mean), deviation * float(weight.norm())


def _phi(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))
