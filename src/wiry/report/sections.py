"""The sections of the page below the verdict, as data that the template sets out."""

from collections.abc import Sequence
from typing import Any

from wiry.report.attacks import attack_section
from wiry.report.bars import class_plot, layer_plot
from wiry.report.collect_evaluation import read_examples
from wiry.report.costs import cost_section
from wiry.report.doubts import finding_section
from wiry.report.evaluations import Evaluation, Interval
from wiry.report.flips import beside_sections
from wiry.report.images import cards
from wiry.report.measures import measure_sections
from wiry.report.parts import Cell, Section, Table, TableLine, chart
from wiry.report.reading import number
from wiry.report.records import Row, RunData, SearchData, StageData
from wiry.report.words import MISSING, count, duration, percent, percent_interval

_BADGES = {
    "dense": "baseline",
    "winner": "chosen",
    "meets": "meets the limits",
    "fails": "misses the limits",
    "explored": "explored",
}


def candidate_table(search: SearchData) -> Table:
    """Return the table of the dense network and all candidates, densest first."""
    rows = [row for row in search.candidates if row.verdict != "dense"]
    if search.winner and search.winner not in rows:
        rows.append(search.winner)
    rows.sort(key=lambda row: -(row.density or 0))
    dense = [search.dense] if search.dense else []
    lines = [_candidate(row, search) for row in dense + rows]
    caption = (
        "The choice was made on validation images; test images, with 95\N{NO-BREAK SPACE}% "
        "intervals, only judge the dense network and the finalists."
    )
    if search.thresholds_text:
        caption += f" Limits: {search.thresholds_text}."
    groups = ["Clean, validation", "Robust, validation", "Clean, test", "Robust, test"]
    header = ["Method", "Weights left", "Non-zeros", *groups, "Verdict"]
    return Table(caption, header, lines, frozenset(range(1, 7)))


def _candidate(row: Row, search: SearchData) -> TableLine:
    verdict = "dense" if row is search.dense else row.verdict
    chosen = search.winner is not None and row == search.winner
    kind = "chosen" if chosen else "baseline" if verdict == "dense" else ""
    badge = "winner" if chosen else verdict if verdict in _BADGES else "explored"
    cells = [
        Cell(row.method),
        Cell(percent(row.density)),
        Cell(count(row.nonzeros)),
        Cell(percent(row.validation_clean)),
        Cell(percent(row.validation_robust)),
        _accuracy(row.clean_accuracy, row.clean_interval),
        _accuracy(row.robust_accuracy, row.robust_interval),
        Cell(_BADGES.get(badge, verdict), row.reason, badge),
    ]
    return TableLine(cells, kind)


def _accuracy(share: float | None, around: Interval | None) -> Cell:
    return Cell(percent(share), percent_interval(around) if around else "")


def stage_table(run: RunData) -> Table:
    """Return the table of a run's stages."""
    lines = []
    for stage in run.stages:
        result = stage.evaluation
        steps = (stage.done or {}).get("steps")
        if steps is None and stage.metrics:
            steps = stage.metrics[-1]["step"]
        state = "" if stage.done is not None else "not finished"
        cells = [
            Cell(stage.name, state),
            Cell(count(steps), duration((stage.done or {}).get("seconds")).replace(MISSING, "")),
            Cell(percent(stage.density)),
            Cell(count(result.cost.get("nonzeros") if result else None)),
            _accuracy(*((result.clean_accuracy, result.clean_interval) if result else _NONE)),
            _accuracy(*((result.robust_accuracy, result.robust_interval) if result else _NONE)),
        ]
        lines.append(TableLine(cells, "chosen" if stage is run.last else ""))
    splits = {s.evaluation.split for s in run.stages if s.evaluation}
    split = " and ".join(sorted(splits)) or "no"
    caption = f"Accuracies on {split} images with 95\N{NO-BREAK SPACE}% intervals."
    header = ["Stage", "Steps", "Weights left", "Non-zeros", "Clean", "Robust"]
    return Table(caption, header, lines, frozenset({1, 2, 3, 4, 5}))


_NONE = (None, None)


def subject_sections(
    stage: StageData | None, dense: StageData | None, name: str, notes: list[str]
) -> list[Section]:
    """Return the sections on the network that the page is about."""
    evaluation = stage.evaluation if stage else None
    if evaluation is None:
        return []
    base = dense.evaluation if dense and dense is not stage else None
    return evaluation_sections(evaluation, base, name, notes)


def evaluation_sections(
    evaluation: Evaluation, dense: Evaluation | None, name: str, notes: list[str]
) -> list[Section]:
    """Return what the page has on one evaluation: doubts first, cost last."""
    found = [
        finding_section(evaluation),
        attack_section(evaluation),
        *measure_sections(evaluation, dense, notes, security=True),
        _failures(evaluation, name, notes),
        _classes(evaluation),
        *measure_sections(evaluation, dense, notes, security=False),
        *beside_sections(evaluation.file.parent, notes),
        _layers(evaluation),
        cost_section(evaluation, dense),
    ]
    return [section for section in found if section]


def _layers(evaluation: Evaluation) -> Section | None:
    plot = layer_plot(evaluation)
    return Section("layers", "Weights left per layer", plots=[chart(plot)]) if plot else None


def _failures(evaluation: Evaluation, name: str, notes: list[str]) -> Section | None:
    if evaluation.robust_accuracy is None:
        return None
    examples = read_examples(evaluation, notes)
    if examples is None:
        return None
    text = (
        f"Images that {name} classifies correctly until they are attacked, with its predictions. "
        "Below each clean image is its class, below each attacked one what the network sees."
    )
    shown = cards(examples, evaluation.class_names)
    if any(card.label != card.clean_prediction for card in shown):
        text = f"Images that {name} gets wrong under attack, with its predictions."
    return Section("failures", "Where it fails under attack", text=text, cards=shown)


def _classes(evaluation: Evaluation) -> Section | None:
    plot = class_plot(evaluation)
    if plot is None:
        return None
    lines = [
        TableLine(
            [
                Cell(str(c.get("name", "?"))),
                Cell(count(number(c.get("num")))),
                Cell(percent(number(c.get("clean")))),
                Cell(percent(number(c.get("robust")))),
            ]
        )
        for c in evaluation.per_class
    ]
    header = ["Class", "Images", "Clean", "Robust"]
    table = Table("Accuracy per class.", header, lines, frozenset({1, 2, 3}))
    return Section("classes", "Accuracy per class", table, table_first=False, plots=[chart(plot)])


def source_sections(run: RunData | None, notes: Sequence[str]) -> list[Section]:
    """Return recipe, provenance and notes."""
    found = []
    if run and run.recipe_text:
        found.append(Section("recipe", "Recipe", pre=run.recipe_text.rstrip()))
    if run and run.provenance:
        lines = [TableLine([Cell(k), Cell(v)]) for k, v in _flatten(run.provenance)]
        table = Table("What the numbers depend on besides the recipe.", ["What", "Value"], lines)
        found.append(Section("provenance", "Provenance", table))
    if notes:
        found.append(Section("notes", "Notes", notes=list(notes)))
    return found


def _flatten(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for key, value in data.items():
        if isinstance(value, dict):
            pairs.append((key, ", ".join(f"{name} {text}" for name, text in value.items())))
        else:
            pairs.append((key, MISSING if value is None else str(value)))
    return pairs
