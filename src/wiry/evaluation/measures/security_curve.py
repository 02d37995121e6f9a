"""The security curve: robust accuracy over the radius, from the nearest misclassified images."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from wiry.attacks.base import check_counts
from wiry.attacks.minimum_norm import Distance
from wiry.core.registry import registry
from wiry.evaluation.minimum_norm import distance_arrays, distance_values, minimum_norms
from wiry.evaluation.security_curve import curve_from_distances, radii
from wiry.evaluation.subject import Measured, Subject
from wiry.evaluation.tuned import Trial, describe, search, tuned


@registry("measure").register("security-curve")
@dataclasses.dataclass(frozen=True)
class SecurityCurve:
    """Find how far the nearest misclassified image is, and draw robust accuracy over the radius.

    Use: to compare networks at all radii, where an attack says something at one. Source: Pintor et
    al. 2021 (FMN); with `tuned`, as in Floris et al. 2023 (HO-FMN). See `wiry.attacks.fmn` for the
    differences.
    """

    norm: Distance | None = None  # None: that of the evaluation's attacks; l0: changed entries
    steps: int = 100  # of one search
    num_targets: int = 3  # searches an image, each towards another class, the nearest first
    tuned: bool = False  # try settings on a few images and run the best ones
    num_trials: int = 32  # settings that are tried (HO-FMN: 32)
    num_tuning: int = 64  # first right images that they are tried on (HO-FMN: 64)
    num_kept: int = 3  # settings that are run, at most
    num_samples: int | None = 1000  # first images only; None: all

    def __post_init__(self) -> None:
        check_counts(
            steps=self.steps,
            num_targets=self.num_targets,
            num_trials=self.num_trials,
            num_tuning=self.num_tuning,
            num_kept=self.num_kept,
            num_samples=1 if self.num_samples is None else self.num_samples,
        )

    def __call__(self, subject: Subject) -> Measured:
        """Return median and mean distance, accuracy at the evaluation's radius, and the curve."""
        norm: Any = self.norm or subject.norm
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        correct = subject.clean_correct[: self.num_samples]
        settings = self._settings(subject, norm, x, y, correct)
        find = search(norm, settings, self.steps, num_targets=self.num_targets)
        size = subject.batch_size
        found = minimum_norms(subject.model, x, y, find, norm=norm, batch_size=size)
        eps = subject.eps if norm == subject.norm else None
        values = distance_values(found.distance, correct, norm=norm, eps=eps)
        attacked = _attacked(subject, eps, len(x))
        if attacked is not None:
            values["attacked_accuracy"] = attacked
        grid = radii(found.distance, correct, norm=norm, eps=eps)
        curve = curve_from_distances(found.distance, correct, norm=norm, grid=grid)
        arrays = distance_arrays(subject.model, x, y, found, batch_size=size)
        return Measured(values, self._remark(values, settings, norm), arrays, (curve,))

    def _settings(
        self, subject: Subject, norm: Any, x: Tensor, y: Tensor, correct: Tensor
    ) -> list[Trial]:
        some = correct.nonzero().squeeze(1)[: self.num_tuning]
        if not self.tuned or len(some) == 0:
            return [Trial()]
        return tuned(
            subject.model,
            x[some],
            y[some],
            norm=norm,
            num_trials=self.num_trials,
            num_kept=self.num_kept,
            steps=self.steps,
            seed=subject.seed,
            batch_size=subject.batch_size,
        )

    def _remark(self, values: dict[str, Any], settings: list[Trial], norm: str) -> str:
        how = "; ".join(describe(trial, norm) for trial in settings)
        text = (
            f"FMN on {values['num_samples']} images, {self.steps} steps towards up to "
            f"{self.num_targets} classes ({how}): distances and curve are upper bounds."
        )
        if values["num_not_found"]:
            text += (
                f" For {values['num_not_found']} right images nothing was found; they count as "
                "robust at every radius, which they are not."
            )
        if "attacked_accuracy" in values:
            text += (
                f" At radius {values['eps']:.4g} the evaluation's attacks leave "
                f"{values['attacked_accuracy']:.1%} of these images, the curve "
                f"{values['accuracy_at_eps']:.1%}."
            )
            if values["accuracy_at_eps"] < values["attacked_accuracy"]:
                text += " The attacks miss images."
        return text


def _attacked(subject: Subject, eps: float | None, count: int) -> float | None:
    """Return the accuracy that the evaluation's own attacks leave, if all have this radius."""
    table = subject.table
    if eps is None or table is None or not table.by_attack:
        return None
    if {(attack["norm"], attack["eps"]) for attack in table.attacks} != {(subject.norm, eps)}:
        return None
    return float(torch.from_numpy(table.robust[:count]).double().mean())
