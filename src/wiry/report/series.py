"""Numbers between the records and the plots: groups of runs, measurements, early stopping, weights.

Pure but for `initial_weights`, which reads two safetensors files. Shared by the interactive plots,
the figures and the tables, so that all show the same values.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from wiry.report.evaluations import Evaluation
from wiry.report.records import Row, RunData, SearchData, StageData

PAPER_DENSITIES = (1.0, 0.513, 0.169, 0.087, 0.036, 0.018)
"""The densities shown by Cosentino et al. 2019 (arXiv 1912.02386), figures 1-12."""


@dataclass(frozen=True)
class Group:
    """Runs of the same recipe that differ in the seed."""

    label: str
    runs: list[RunData]

    def stages(self, name: str) -> list[StageData]:
        """Return the stage with a name in every run that has it."""
        return [stage for run in self.runs if (stage := run.stage(name))]

    @property
    def levels(self) -> list[str]:
        """The names of the stages of known density, in the order of the run with most stages."""
        longest = max(self.runs, key=lambda run: len(run.stages))
        return [stage.name for stage in longest.stages if stage.density]


@dataclass(frozen=True)
class Measurement:
    """What was measured on one network over its seeds; accuracies are one number per seed."""

    group: str
    stage: str
    density: float
    nonzeros: float | None
    clean: list[float]
    robust: list[float]
    attacks: dict[str, list[float]]
    eps: float | None
    norm: str | None
    attack: str | None
    split: str
    num_samples: int | None
    runs: list[str]


def group_runs(runs: Iterable[RunData]) -> list[Group]:
    """Group runs by recipe, the seed left out; equal names get the hash too."""
    found: dict[str, list[RunData]] = {}
    for run in runs:
        recipe = {key: value for key, value in run.recipe.items() if key != "seed"}
        same = json.dumps([run.name, recipe], sort_keys=True, default=str)
        found.setdefault(same, []).append(run)
    names = [members[0].name for members in found.values()]
    return [
        Group(name if names.count(name) == 1 else members[0].root.name, members)
        for name, members in zip(names, found.values(), strict=True)
    ]


def measurements(sources: Iterable[RunData | SearchData]) -> list[Measurement]:
    """Return the measurements of evaluated stages of runs and of tested rows of searches."""
    sources = list(sources)
    found = []
    for group in group_runs(s for s in sources if isinstance(s, RunData)):
        rows = (_measure(group, name) for name in group.levels)
        found.extend(row for row in rows if row)
    for search in (s for s in sources if isinstance(s, SearchData)):
        rows = [search.dense] if search.dense else []
        rows += [row for row in search.candidates if row != search.dense]
        found.extend(m for m in (_measure_row(search, row) for row in rows) if m)
    return found


def _measure(group: Group, name: str) -> Measurement | None:
    stages = [s for s in group.stages(name) if s.evaluation and s.density]
    evaluations = [s.evaluation for s in stages if s.evaluation]
    if not evaluations:
        return None
    first = evaluations[0]
    nonzeros = [e.cost["nonzeros"] for e in evaluations if "nonzeros" in e.cost]
    return Measurement(
        group=group.label,
        stage=name,
        density=float(np.mean([s.density for s in stages if s.density])),
        nonzeros=float(np.mean(nonzeros)) if nonzeros else None,
        clean=[e.clean_accuracy for e in evaluations],
        robust=[e.robust_accuracy for e in evaluations if e.robust_accuracy is not None],
        attacks=_by_attack(evaluations),
        eps=first.eps,
        norm=first.norm,
        attack=first.attack,
        split=first.split,
        num_samples=first.num_samples,
        runs=[s.folder.parent.parent.name for s in stages],
    )


def _by_attack(evaluations: Sequence[Evaluation]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for attack in evaluation.attacks:
            if isinstance(attack.get("accuracy"), int | float):
                found.setdefault(str(attack.get("attack", "?")), []).append(attack["accuracy"])
    return found


def _measure_row(search: SearchData, row: Row) -> Measurement | None:
    if row.clean_accuracy is None or not row.density:
        return None
    robust = [] if row.robust_accuracy is None else [row.robust_accuracy]
    return Measurement(
        group=f"{search.name}: {row.method}",
        stage=row.stage or "",
        density=row.density,
        nonzeros=row.nonzeros,
        clean=[c for c, _ in row.per_seed if c is not None] or [row.clean_accuracy],
        robust=[r for _, r in row.per_seed if r is not None] or robust,
        attacks={},
        eps=row.eps,
        norm=row.norm,
        attack=row.attack,
        split="test",
        num_samples=None,
        runs=row.runs or [row.run],
    )


def early_stop(stage: StageData) -> dict[str, Any] | None:
    """Return the metrics at the least validation loss: the early-stopping point as a measurement.

    The loss is the mean of the clean and the attacked one where the monitor attacks, else the clean
    one. Source: Cosentino et al. 2019, section 5. Differs: labels are hard. Training itself runs to
    its end.
    """
    names = ("validation_loss", "validation_robust_loss")
    attacked = any(row.get(names[1]) is not None for row in stage.metrics)
    wanted = names if attacked else names[:1]
    rows = [row for row in stage.metrics if all(row.get(name) is not None for name in wanted)]
    return min(rows, key=lambda row: sum(row[name] for name in wanted), default=None)


def choose_levels(
    densities: Sequence[float | None], wanted: Sequence[float] = PAPER_DENSITIES
) -> list[int]:
    """Choose the positions nearest (in log density) to the wanted densities; few are all kept."""
    known = {position: d for position, d in enumerate(densities) if d}
    if len(known) <= len(wanted):
        return list(known)
    return sorted({min(known, key=lambda p: abs(math.log(known[p] / target))) for target in wanted})


def metric_key(stages: Iterable[StageData], name: str) -> str | None:
    """Return the name of a metric on the test split where it was recorded, else on validation."""
    rows = [row for stage in stages for row in stage.metrics]
    for key in (f"test_{name}", f"validation_{name}"):
        if any(row.get(key) is not None for row in rows):
            return key
    return None


def curve(stage: StageData, key: str) -> tuple[list[float], list[float]]:
    """Return steps and values of one metric."""
    rows = [row for row in stage.metrics if row.get(key) is not None]
    return [row["step"] for row in rows], [row[key] for row in rows]


def mean_curve(
    stages: Sequence[StageData], key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return steps, mean and sample deviation over seeds, at the steps that all seeds have."""
    curves = [dict(zip(*curve(stage, key), strict=True)) for stage in stages]
    curves = [c for c in curves if c]
    if not curves:
        return None
    steps = sorted(set.intersection(*(set(c) for c in curves)))
    values = np.array([[c[step] for step in steps] for c in curves], dtype=float)
    deviation = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(steps))
    return np.array(steps), values.mean(axis=0), deviation


def initial_weights(stage: StageData) -> dict[str, np.ndarray]:
    """Return, layer by layer, the values a stage's surviving weights had at its own step 0.

    Empty where the stage has no `kept/0it.safetensors` or no mask.
    """
    try:
        weights = load_file(stage.folder / "kept" / "0it.safetensors")
        mask = load_file(stage.folder / "mask.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return {}
    found = {}
    for name, values in weights.items():
        alive = mask.get(name)
        if alive is not None and alive.shape == values.shape:
            found[name] = values[alive.astype(bool)]
        elif alive is None and values.ndim > 1:
            found[name] = values.ravel()
    return {name: values for name, values in found.items() if values.size}


def kernel_density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Estimate a density on an even grid: a histogram smoothed by a Gaussian of Scott's width."""
    step = float(grid[1] - grid[0])
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    counts, _ = np.histogram(values, edges)
    width = max(float(values.std()) * values.size**-0.2, step)
    reach = np.arange(-len(grid) // 2, len(grid) // 2 + 1) * step
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    smooth = np.convolve(counts, kernel, mode="same")[: len(grid)]
    return smooth / max(smooth.sum() * step, 1e-12)
