"""What a reader must know before the numbers: the warnings at the top of the page.

Pieces of finished stages that are gone or unreadable are named while reading (`collect`); here they
are joined by what only the whole shows: a page about another stage than the last one, and networks
that predict one class only.
"""

from collections.abc import Sequence

from wiry.report.doubts import alarms_of
from wiry.report.evaluations import Evaluation
from wiry.report.reading import number
from wiry.report.records import RunData, SearchData, StageData, is_judged_alike


def run_alarms(run: RunData, found: Sequence[str]) -> list[str]:
    """Return the warnings of a run's page; `found` are the notes on its example images."""
    warnings = [*run.warnings, *found]
    later = run.stages[run.stages.index(run.last) + 1 :] if run.last else []
    skipped = [stage.name for stage in later if stage.done is not None]
    if run.last and skipped:
        names = ", ".join(repr(name) for name in skipped)
        what = f"stage {names} has" if len(skipped) == 1 else f"stages {names} have"
        warnings.append(
            f"The {what} finished without an evaluation that can be read: "
            f"this page is about the earlier stage {run.last.name!r}."
        )
    told = [
        f"{stage.name}: {row['alarm']}"
        for stage in run.stages
        for row in stage.metrics
        if row.get("alarm")
    ]
    one = [text for stage in run.stages for text in _one_class(stage, stage.name)]
    judged = _judged(run)
    doubts = [text for stage in judged for text in alarms_of(stage.evaluation, stage.name)]
    evaluations = [stage.evaluation for stage in judged if stage.evaluation]
    if len(evaluations) == 2 and not is_judged_alike(*evaluations):
        doubts.append(
            f"{judged[1].name} was not judged as {judged[0].name} was (other images or attacks): "
            "do not compare their accuracies."
        )
    return [*doubts, *warnings, *told, *one]


def _judged(run: RunData) -> list[StageData]:
    """Return the stages whose accuracies the page compares, the last one first."""
    found = [run.last, run.dense if run.dense is not run.last else None]
    return [stage for stage in found if stage]


def evaluation_alarms(evaluation: Evaluation, notes: Sequence[str]) -> list[str]:
    """Return the warnings of an evaluation's page; `notes` are on what could not be read."""
    predicted = single_class(evaluation)
    one = [] if predicted is None else [f"It predicts one class only ({predicted!r})."]
    return [*alarms_of(evaluation), *notes, *one]


def search_alarms(
    search: SearchData, stage: StageData | None, dense: StageData | None, found: Sequence[str]
) -> list[str]:
    """Return the warnings of a search's page; `found` are the notes on its example images."""
    warnings = [*search.warnings, *found]
    doubts: list[str] = []
    if stage and search.subject:
        doubts += alarms_of(stage.evaluation, search.subject.method)
        warnings += _one_class(stage, search.subject.method)
    if dense and (stage is None or dense.folder != stage.folder):
        doubts += alarms_of(dense.evaluation, "dense")
        warnings += _one_class(dense, "dense")
    return [*doubts, *warnings]


def _one_class(stage: StageData, name: str) -> list[str]:
    predicted = single_class(stage.evaluation) if stage.evaluation else None
    return [] if predicted is None else [f"{name}: predicts one class only ({predicted!r})."]


def single_class(evaluation: Evaluation) -> str | None:
    """Return the only class that a network predicts, else None.

    All images of that class are right and none of any other. It need not be the largest class, but
    a network that has learned nothing else settles there.
    """
    shares = [
        (str(c.get("name", "?")), clean)
        for c in evaluation.per_class
        if number(c.get("num")) != 0 and (clean := number(c.get("clean"))) is not None
    ]
    right = [(name, clean) for name, clean in shares if clean > 0]
    if len(shares) < 2 or len(right) != 1 or right[0][1] < 0.9995:  # the share may be rounded
        return None
    return right[0][0]
