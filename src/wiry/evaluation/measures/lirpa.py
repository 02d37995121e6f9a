"""Certified accuracy by auto_LiRPA's bounds, which are tighter than wiry's own and slower."""

import dataclasses
import math
from typing import cast, get_args

from wiry.attacks.base import check_counts
from wiry.bounds.lirpa import LirpaMethod, LirpaNorm, lirpa_certified
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.judge import device_of
from wiry.evaluation.subject import Measured, Subject


@registry("measure").register("lirpa")
@dataclasses.dataclass(frozen=True)
class Lirpa:
    """Prove robustness in linf or l2 with the package auto_LiRPA, which must be installed.

    Source: Xu et al. 2020 (auto_LiRPA), Zhang et al. 2018 (CROWN), Xu et al. 2021 (alpha-CROWN).
    """

    method: LirpaMethod = "crown"
    norm: LirpaNorm | None = None  # None: that of the evaluation's attacks
    eps: float | None = None  # radius, pixels; None: that of the evaluation's attacks
    num_samples: int | None = 100  # first images only; None: all
    batch_size: int = 16  # images at once; CROWN holds a matrix for each layer

    def __post_init__(self) -> None:
        check_counts(
            batch_size=self.batch_size,
            num_samples=1 if self.num_samples is None else self.num_samples,
        )
        if self.eps is not None and not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps must be at least 0, got {self.eps:g}")

    def __call__(self, subject: Subject) -> Measured:
        """Return the certified accuracy and, by image, whether it is certified.

        Raises:
            UserError: without auto_LiRPA, without a radius, or for a network it cannot take.
        """
        norm = self.norm or subject.norm
        eps = self.eps if self.eps is not None else subject.eps
        same = self.eps is not None or norm == subject.norm
        if eps is None or not same or norm not in get_args(LirpaNorm):
            raise UserError(
                f"measure 'lirpa' proves robustness in linf or l2, and the evaluation is in "
                f"{subject.norm} with eps {subject.eps}; give its fields `norm` and `eps`"
            )
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        device = device_of(subject.model)
        proven = lirpa_certified(
            subject.model,
            x.to(device),
            y.to(device),
            eps,
            self.method,
            norm=cast(LirpaNorm, norm),
            batch_size=self.batch_size,
        ).cpu()
        values = {"certified_accuracy": float(proven.double().mean()), "eps": eps, "norm": norm}
        remark = (
            f"auto_LiRPA's {self.method} proves the class of {int(proven.sum())} of {len(x)} "
            f"images anywhere within {norm} {eps:.4g}; of the others it says nothing."
        )
        return Measured(values, remark, {"certified": proven.numpy()})
