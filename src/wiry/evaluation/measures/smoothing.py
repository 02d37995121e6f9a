"""Certified accuracy of the network smoothed by Gaussian noise."""

import dataclasses
import math

import torch

from wiry.attacks.base import check_counts
from wiry.core.draws import draws_of
from wiry.core.registry import registry
from wiry.evaluation.smoothing import (
    Smoothed,
    certified_accuracy,
    certify_smoothed,
    largest_radius,
)
from wiry.evaluation.subject import Curve, Measured, Subject


@registry("measure").register("smoothing")
@dataclasses.dataclass(frozen=True)
class Smoothing:
    """Certify the network's majority vote under Gaussian noise, in l2.

    Source: Cohen et al. 2019; the average certified radius is that of Zhai et al. 2020 (MACER).
    """

    sigma: float = 0.25  # of the noise, pixels in [0, 1]; paper: 0.12, 0.25, 0.5, 1
    n0: int = 100  # noisy copies that choose the class (paper)
    n: int = 1000  # copies that certify it; paper: 100,000. Few of them cap the radius
    alpha: float = 0.001  # probability that the certificate of an image is wrong (paper)
    num_samples: int | None = 100  # first images only; None: all

    def __post_init__(self) -> None:
        check_counts(
            n0=self.n0, n=self.n, num_samples=1 if self.num_samples is None else self.num_samples
        )
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma must be positive, got {self.sigma:g}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is a probability in (0, 1), got {self.alpha:g}")

    def __call__(self, subject: Subject) -> Measured:
        """Return certified accuracies, the mean radius, and radius and answer by image."""
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        found = certify_smoothed(
            subject.model,
            x,
            sigma=self.sigma,
            draws=draws_of(subject.seed, "smoothing", index=torch.arange(len(x))),
            num_selection=self.n0,
            num_estimation=self.n,
            alpha=self.alpha,
            batch_size=subject.batch_size,
        )
        return self._measured(found, y, subject)

    def _measured(self, found: Smoothed, y: torch.Tensor, subject: Subject) -> Measured:
        cap = largest_radius(self.sigma, self.n, self.alpha)
        in_l2 = subject.norm == "l2" and subject.eps is not None
        ends = torch.linspace(0, cap, 41, dtype=torch.float64)
        shares = certified_accuracy(found, y, ends)
        at_eps = (
            certified_accuracy(found, y, torch.tensor([subject.eps]).double()) if in_l2 else None
        )
        values = {
            "smoothed_accuracy": float(shares[0]),
            "certified_accuracy": None if at_eps is None else float(at_eps),
            "eps": subject.eps if in_l2 else None,
            "average_radius": float((found.radius * (found.prediction == y)).mean()),
            "abstained": float(found.abstained.double().mean()),
            "largest_radius": cap,
        }
        remark = (
            f"The majority vote of {self.n} noisy copies (sigma {self.sigma:g}) of {len(y)} "
            f"images: another classifier than the network itself, certified in l2; no radius can "
            f"exceed {cap:.3g} with so many copies."
        )
        curve = Curve(
            "smoothed",
            "l2 radius, pixels in [0, 1]",
            ends.tolist(),
            shares.tolist(),
            "certified accuracy",
        )
        arrays = {
            "radius": found.radius.float().numpy(),
            "prediction": found.prediction.numpy(),
        }
        return Measured(values, remark, arrays, (curve,))
