"""Accuracy under common corruptions: noise, blur, weather and what cameras do to pictures."""

import dataclasses
from typing import Any

import numpy as np

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.data.corruptions import CORRUPTIONS, SEVERITIES, check_corruptions
from wiry.data.corruptions.official import official_files
from wiry.evaluation.corruption import (
    corrupted_verdicts,
    made_here,
    mean_corruption_error,
    published,
    stored_baseline,
    unfit,
)
from wiry.evaluation.subject import Curve, Measured, Subject


@registry("measure").register("corruptions")
@dataclasses.dataclass(frozen=True)
class Corruptions:
    """Show images under fifteen common corruptions at five severities, and count right answers.

    Source: Hendrycks and Dietterich 2019. Differs: unless `folder` has the published files of
    CIFAR-10-C, corruptions are made here, see `wiry.data.corruptions.corrupt`, and are those of any
    data set; numbers on them are for comparisons within wiry.
    """

    names: list[str] | None = None  # of the corruptions; None: the fifteen of CIFAR-10-C
    severities: list[int] | None = None  # 1 to 5; None: all
    num_samples: int | None = 1000  # first images only; None: all
    folder: str | None = None  # with the published files; None: corruptions are made here

    def __post_init__(self) -> None:
        check_corruptions(self.names or [], self.severities or [])
        for key in ("names", "severities"):
            chosen = getattr(self, key)
            if chosen is not None and (not chosen or len(set(chosen)) < len(chosen)):
                raise UserError(f"{key} must be one or more different ones, got {chosen}")
        if self.num_samples is not None and self.num_samples < 1:
            raise UserError(f"num_samples must be at least 1, got {self.num_samples}")

    def __call__(self, subject: Subject) -> Measured:
        """Return mean accuracies and errors, and by image what was right under what.

        Raises:
            UserError: for images that are neither grey nor colour, or published files that are
                missing, damaged or of other images.
        """
        names = self.names or list(CORRUPTIONS)
        severities = sorted(self.severities or SEVERITIES)
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        if self.folder is None:
            source = made_here(x, subject.seed)
        else:
            source = published(official_files(self.folder), names, x, y)
        right = corrupted_verdicts(
            subject.model,
            y,
            source,
            names=names,
            severities=severities,
            batch_size=subject.batch_size,
        )
        accuracy = right.mean(axis=0)
        values: dict[str, Any] = {
            "clean_accuracy": float(subject.clean_correct[: len(x)].double().mean()),
            "corrupted_accuracy": float(accuracy.mean()),
            "mean_error": float(1 - accuracy.mean()),
            **self._relative(1 - accuracy, names, severities, subject),
            **{name: float(row.mean()) for name, row in zip(names, accuracy, strict=True)},
        }
        where = "made here" if self.folder is None else "of the published files"
        remark = (
            f"Mean of {len(names)} corruptions {where} at severity "
            f"{', '.join(map(str, severities))} on {len(x)} images; severity 0 is the clean image."
        )
        curve = _curve(severities, values["clean_accuracy"], accuracy)
        return Measured(values, remark, {"right": right}, (curve,))

    def _relative(
        self, error: np.ndarray, names: list[str], severities: list[int], subject: Subject
    ) -> dict[str, Any]:
        baseline = stored_baseline()
        why_not = unfit(
            baseline,
            names,
            class_names=subject.class_names,
            shape=subject.x.shape[1:],
            is_published=self.folder is not None,
        )
        if why_not is not None:
            return {"mean_corruption_error": None, "baseline": why_not}
        ratio = mean_corruption_error(error, names, severities, baseline)
        return {"mean_corruption_error": ratio, "baseline": baseline.what}


def _curve(severities: list[int], clean: float, accuracy: np.ndarray) -> Curve:
    return Curve(
        "accuracy under corruptions",
        "severity",
        [0.0, *map(float, severities)],
        [clean, *map(float, accuracy.mean(axis=0))],
        "mean accuracy",
    )
