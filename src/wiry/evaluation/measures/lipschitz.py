"""Local Lipschitz constants of the margins, and the distances to the boundary they stand for."""

import dataclasses
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wiry.attacks.base import check_counts
from wiry.core.draws import draws_of
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.lipschitz import (
    Order,
    condition_numbers,
    margin_bound,
    product_lipschitz,
    sampled_lipschitz,
)
from wiry.evaluation.subject import Measured, Subject

_ORDERS: dict[str, Order] = {"linf": 1, "l2": 2}


@registry("measure").register("lipschitz")
@dataclasses.dataclass(frozen=True)
class Lipschitz:
    """Sample the margins' local Lipschitz constants; bound them where the network is a chain.

    Source: Hein and Andriushchenko 2017, theorem 2.1; Guo et al. 2018, theorem 3.2 (the bound, here
    with largest singular values); Feng et al. 2025 (condition numbers).
    """

    norm: Literal["linf", "l2"] | None = None  # of the ball; None: that of the evaluation's attacks
    radius: float | None = None  # of the ball, pixels; None: eps of the evaluation's attacks
    num_points: int = 32  # random points of each ball, beside the image
    num_samples: int | None = 100  # first images only; None: all

    def __post_init__(self) -> None:
        check_counts(
            num_points=self.num_points,
            num_samples=1 if self.num_samples is None else self.num_samples,
        )
        if self.radius is not None and not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius must be positive, got {self.radius:g}")

    def __call__(self, subject: Subject) -> Measured:
        """Return means over right images, and constants and distances by right image.

        Raises:
            UserError: without a radius, or in a norm that is neither linf nor l2.
        """
        norm, radius = self._ball(subject)
        right = subject.clean_correct[: self.num_samples].nonzero().flatten()
        if len(right) == 0:
            return Measured({"lipschitz": None}, "No image is right, so there is no margin.")
        draws = draws_of(subject.seed, "lipschitz", index=right)
        product, note = _product(subject.model, _ORDERS[norm])
        columns: list[tuple[Tensor, ...]] = []
        for rows in torch.arange(len(right)).split(subject.batch_size):
            x, y = subject.x[right[rows]], subject.y[right[rows]]
            sampled = sampled_lipschitz(
                subject.model,
                x,
                order=_ORDERS[norm],
                radius=radius,
                num_samples=self.num_points,
                generator=draws.select(rows),
            )
            found = (sampled.amax(1), margin_bound(subject.model, x, sampled, radius=radius))
            if product is not None:
                bounds = product[y]
                found += (bounds.amax(1), margin_bound(subject.model, x, bounds))
            columns.append(found)
        names = ("lipschitz", "estimated_distance", "lipschitz_bound", "proved_distance")
        arrays = dict(zip(names, map(torch.cat, zip(*columns, strict=True)), strict=False))
        values: dict[str, Any] = {
            name: float(arrays[name].mean()) if name in arrays else None for name in names
        }
        values |= {"norm": norm, "radius": radius, "condition": _condition(subject.model)}
        remark = (
            f"Largest gradient norms of the margins at {len(right)} right images and "
            f"{self.num_points} points of each {norm} ball of {radius:.4g}: sampled constants are "
            f"too small, so estimated distances are none to rely on; {note}."
        )
        index = {"index": right.numpy()}
        return Measured(values, remark, {k: v.numpy() for k, v in arrays.items()} | index)

    def _ball(self, subject: Subject) -> tuple[str, float]:
        norm = self.norm or subject.norm
        radius = self.radius if self.radius is not None else subject.eps
        same = self.radius is not None or norm == subject.norm
        if norm not in _ORDERS or radius is None or not same:
            raise UserError(
                f"measure 'lipschitz' needs a ball in linf or l2, and the evaluation is in "
                f"{subject.norm} with eps {subject.eps}; give its fields `norm` and `radius`"
            )
        return norm, radius


def _product(model: nn.Module, order: Order) -> tuple[Tensor | None, str]:
    """Return bounds for each pair of classes, if the network is such that they are known."""
    try:
        return product_lipschitz(model, order=order, norm="spectral"), "proved distances hold"
    except UserError as error:
        return None, f"nothing is proved: {error}"


def _condition(model: nn.Module) -> float | None:
    """Return the worst condition number of a layer, zero singular values left out."""
    found = [row["condition_of_rank"] for row in condition_numbers(model)]
    return max((value for value in found if math.isfinite(value)), default=None)
