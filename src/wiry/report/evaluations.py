"""The plain records of an evaluation: shares, attacks, findings, measures, images.

Nothing here reads files or imports torch. A value that was not measured or not found is None.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Interval = tuple[float, float]


@dataclass(frozen=True)
class Examples:
    """Images before and after an attack, as (n, c, h, w) in [0, 1], and what was said of them.

    `distance` is that of the two, in a norm that the measure names; empty for fooled images.
    """

    clean: np.ndarray
    adversarial: np.ndarray
    label: np.ndarray
    clean_prediction: np.ndarray
    adversarial_prediction: np.ndarray
    distance: np.ndarray | None = None


@dataclass(frozen=True)
class FindingRow:
    """A reason to doubt an evaluation; the severity is `error`, `warning` or `note`."""

    check: str
    severity: str
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CurveData:
    """A line to be drawn; points of which a coordinate is no number are gone."""

    name: str
    x_label: str
    x: list[float]
    y: list[float]
    y_label: str


@dataclass(frozen=True)
class MeasureData:
    """What a measure said; its arrays are in the .npz under its position."""

    position: int
    name: str
    spec: dict[str, Any]
    values: dict[str, Any]
    remark: str
    curves: list[CurveData] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one network on one split.

    `findings` is None where the record does not say that anybody looked, `checks` where it does not
    say who. `certified` and `screened` are as in the record.
    """

    file: Path
    split: str
    num_samples: int
    clean_accuracy: float
    clean_interval: Interval | None = None
    robust_accuracy: float | None = None
    robust_interval: Interval | None = None
    eps: float | None = None
    norm: str | None = None
    attack: str | None = None
    attacks: list[dict[str, Any]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    protocol: str | None = None
    cascade: bool = False
    seconds: float | None = None
    findings: list[FindingRow] | None = None
    checks: list[str] | None = None
    measures: list[MeasureData] = field(default_factory=list)
    certified: dict[str, Any] | None = None
    screened: dict[str, Any] | None = None

    @property
    def density(self) -> float | None:
        """Share of prunable weights left, if the record has a cost."""
        return self.cost.get("mask_density")

    def measure(self, name: str) -> MeasureData | None:
        """Return the first measure with a name, or None."""
        return next((m for m in self.measures if m.name == name), None)
