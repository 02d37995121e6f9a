"""The plain records of a report: runs, stages, searches; those of an evaluation: `evaluations`.

Nothing here reads files or imports torch. A value that was not measured or not found is None.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wiry.report.evaluations import Evaluation, Interval


@dataclass(frozen=True)
class StageData:
    """One stage of a run: its place, how far it is, its metrics and evaluations."""

    name: str
    folder: Path
    done: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    evaluations: list[Evaluation]

    @property
    def density(self) -> float | None:
        """Share of prunable weights left, from DONE, else the metrics, else the evaluation."""
        found = (self.done or {}).get("density")
        if found is None and self.metrics:
            found = self.metrics[-1].get("density")
        if found is None and self.evaluations:
            found = self.evaluations[-1].cost.get("mask_density")
        return found

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation to report: test before validation, attacked before clean, most images.

        Then most attacks, all attacks before screened ones, most measures.
        """
        return max(self.evaluations, key=_weight, default=None)


def _weight(evaluation: Evaluation) -> tuple[bool, bool, int, int, bool, int]:
    attacked = evaluation.robust_accuracy is not None
    return (
        evaluation.split == "test",
        attacked,
        evaluation.num_samples,
        len(evaluation.attacks),
        evaluation.screened is None,
        len(evaluation.measures),
    )


def is_judged_alike(one: Evaluation, other: Evaluation) -> bool:
    """Say whether two networks met the same number of images and the same attacks."""
    questions = [(e.split, e.num_samples, e.eps, e.norm, e.attack) for e in (one, other)]
    return questions[0] == questions[1]


@dataclass(frozen=True)
class RunData:
    """A run directory."""

    root: Path
    recipe: dict[str, Any]
    recipe_text: str
    provenance: dict[str, Any]
    stages: list[StageData]
    notes: list[str]
    warnings: list[str] = field(default_factory=list)  # the notes on finished stages

    @property
    def name(self) -> str:
        """The recipe's name, else the directory's."""
        return str(self.recipe.get("name") or self.root.name)

    @property
    def data(self) -> str:
        """The data set's name."""
        return component_name(self.recipe.get("data"))

    @property
    def model(self) -> str:
        """The model's name."""
        return component_name(self.recipe.get("model"))

    def stage(self, name: str | None) -> StageData | None:
        """Return the stage with a name, or None."""
        return next((s for s in self.stages if s.name == name), None)

    @property
    def dense(self) -> StageData | None:
        """The first stage with all its weights, if it was evaluated.

        Of several evaluations it has the ones that are like the last stage's, if there are any.
        """
        full = (s for s in self.stages if s.evaluation and (s.density or 0) > 0.9995)
        stage, last = next(full, None), self.last
        if stage is None or last is None or stage is last or last.evaluation is None:
            return stage
        alike = [e for e in stage.evaluations if is_judged_alike(e, last.evaluation)]
        return replace(stage, evaluations=alike) if alike else stage

    @property
    def last(self) -> StageData | None:
        """The last stage that was evaluated."""
        return next((s for s in reversed(self.stages) if s.evaluation), None)


@dataclass(frozen=True)
class Row:
    """One network of a search: the accuracies are on the test split, validation made the choice."""

    method: str
    density: float | None
    nonzeros: int | None
    clean_accuracy: float | None
    clean_interval: Interval | None
    robust_accuracy: float | None
    robust_interval: Interval | None
    validation_clean: float | None
    validation_robust: float | None
    eps: float | None
    norm: str | None
    attack: str | None
    run: str
    stage: str | None
    runs: list[str]
    per_seed: list[tuple[float | None, float | None]]
    verdict: str
    reason: str


@dataclass(frozen=True)
class SearchData:
    """A search directory: its rows, and the runs of the dense and of the reported network."""

    root: Path
    name: str
    data: str
    model: str
    settings: dict[str, Any]
    constraint: dict[str, float | None]
    thresholds_text: str
    dense: Row | None
    candidates: list[Row]
    winner: Row | None
    nearest: Row | None
    finished: bool
    stopped: str | None
    best: str | None
    seconds: float | None
    dense_run: RunData | None
    subject_run: RunData | None
    notes: list[str]
    warnings: list[str] = field(default_factory=list)  # the notes on finished stages

    @property
    def subject(self) -> Row | None:
        """The row that the page is about: the winner, else the nearest."""
        return self.winner or self.nearest


def component_name(spec: Any) -> str:
    """Return the name in a component's specification, which is a name or a mapping with one."""
    if isinstance(spec, dict):
        return str(spec.get("name", "?"))
    return str(spec) if spec else "?"
