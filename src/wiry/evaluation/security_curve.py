"""Security curves: robust accuracy over the radius, from one distance an image.

An image counts as robust at a radius if it is right and nothing that fools was found within it, so
a curve is an upper bound of robust accuracy at every radius. Nothing is searched for here.
"""

import math
from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from wiry.evaluation.subject import Curve

NUM_POINTS = 51
"""Radii of a curve, unless they are given."""

_LEFT = 0.01  # share of the right images that may be left at the curve's end


def accuracy_at(distance: Float[Tensor, " n"], correct: Bool[Tensor, " n"], eps: float) -> float:
    """Return the share of all images that are right and have nothing that fools within `eps`."""
    return float((correct & (distance > eps)).double().mean())


def curve_from_distances(
    distance: Float[Tensor, " n"],
    correct: Bool[Tensor, " n"],
    *,
    norm: str,
    grid: Sequence[float] | None = None,
) -> Curve:
    """Return robust accuracy over the radius; exact at each radius, and falling.

    Source: Biggio and Roli 2018 (security evaluation curves); from distances as in Pintor et al.
    2021.

    Args:
        distance: of each image to the nearest misclassified one found, infinite where there is
            none: such an image is robust at every radius.
        correct: whether the image itself is right; if not, it counts at no radius.
        norm: of the distances, for the labels.
        grid: radii; None: `radii`.
    """
    grid = radii(distance, correct, norm=norm) if grid is None else sorted(grid)
    unit = "changed entries" if norm == "l0" else "pixels in [0, 1]"
    return Curve(
        name=f"security curve ({norm})",
        x_label=f"{norm} radius, {unit}",
        x=[float(eps) for eps in grid],
        y=[accuracy_at(distance, correct, eps) for eps in grid],
        y_label="robust accuracy, upper bound",
    )


def radii(
    distance: Float[Tensor, " n"],
    correct: Bool[Tensor, " n"],
    *,
    norm: str,
    eps: float | None = None,
) -> list[float]:
    """Return equal steps from 0 to a round number where hardly an image is left.

    What is not found at all stays up there; the last radius is then where all that is found ends.

    Args:
        eps: a radius that is to be among them.
    """
    known = distance[correct & distance.isfinite()].double().sort().values
    end = float(known[max(0, math.ceil((1 - _LEFT) * len(known)) - 1)]) if len(known) else 0.0
    end = max(end, eps or 0.0) or 1.0
    if norm == "l0":
        step = max(1, math.ceil(end / (NUM_POINTS - 1)))
        grid = [float(step * place) for place in range(math.ceil(end / step) + 1)]
    else:
        end = _round_up(end)
        grid = [end * place / (NUM_POINTS - 1) for place in range(NUM_POINTS)]
    return grid if eps is None else sorted({*grid, eps})


def _round_up(value: float) -> float:
    """Return the next number with two digits, so that networks that are alike share their radii."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / power * (1 - 1e-9)) * power:.6g}")
