"""The verdict in plain sentences: what was found, how good it is, how sure, where it lies."""

from dataclasses import dataclass, field
from typing import Literal

from wiry.report.records import Evaluation, Interval, Row, RunData, SearchData, StageData
from wiry.report.words import (
    MISSING,
    SPACE,
    count,
    duration,
    eps_text,
    norm_text,
    percent,
    percent_interval,
    percent_spread,
    points,
)


@dataclass(frozen=True)
class Tile:
    """One key figure with its interval and the dense network's."""

    title: str
    value: str
    interval: str
    baseline: str


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    tone: Literal["found", "not-found", "open"]
    headline: str
    lead: str
    tiles: list[Tile] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """Test numbers of one network, from a search's row or a stage's evaluation."""

    density: float | None
    nonzeros: float | None
    prunable: float | None
    clean: float | None
    clean_interval: Interval | None
    robust: float | None
    robust_interval: Interval | None


def measured(source: Row | StageData | None, evaluation: Evaluation | None) -> Measured | None:
    """Bring a row (with the evaluation of its run, if found) or a stage into one form."""
    if source is None or (isinstance(source, StageData) and evaluation is None):
        return None
    cost = evaluation.cost if evaluation else {}
    numbers = source if isinstance(source, Row) else evaluation
    assert numbers is not None, "a stage without an evaluation has returned above"
    nonzeros = source.nonzeros if isinstance(source, Row) else cost.get("nonzeros")
    return Measured(
        density=source.density,
        nonzeros=nonzeros if nonzeros is not None else cost.get("nonzeros"),
        prunable=cost.get("prunable"),
        clean=numbers.clean_accuracy,
        clean_interval=numbers.clean_interval,
        robust=numbers.robust_accuracy,
        robust_interval=numbers.robust_interval,
    )


def search_verdict(
    search: SearchData, subject: Evaluation | None, dense: Evaluation | None
) -> Verdict:
    """Write the verdict of a search."""
    row, network = search.subject, f"{search.model} on {search.data}"
    state = _search_state(search)
    if row is None:
        return Verdict("open", f"No network of {network} has been judged yet.", state)
    ours, base = measured(row, subject), measured(search.dense, dense)
    assert ours is not None, "the subject is a row"
    if search.winner:
        tone, headline = "found", f"{network} {_keeps(ours)}."
    else:
        tone = "not-found"
        limits = f": {search.thresholds_text}" if search.thresholds_text else ""
        headline = f"No sparse {network} meets the limits{limits}."
        state = f"{state} The nearest, by {row.method}, {_keeps(ours)}.".strip()
    accuracies = _accuracies(ours, base, _budget(row)) or _on_validation(row)
    lead = " ".join(part for part in (state, accuracies) if part)
    facts = [("Method", row.method), *_test_facts(row, subject)]
    facts.append(("How sure", " ".join([*_sureness(ours, base), *_seeds(row)])))
    if search.winner and search.best:
        facts.append(("The network", f"{search.best}/weights.safetensors{_size(search)}"))
    elif row.run:
        facts.append(("The network", f"{row.run}, stage {row.stage}"))
    return Verdict(tone, headline, lead, _tiles(ours, base), facts)


def run_verdict(run: RunData) -> Verdict:
    """Write the verdict of a single run: its last evaluated stage beside its dense one."""
    network, stage = f"{run.model} on {run.data}", run.last
    state = _run_state(run)
    if stage is None or stage.evaluation is None:
        return Verdict("open", f"No network of {network} has been evaluated yet.", state)
    dense = run.dense if run.dense is not stage else None
    ours = measured(stage, stage.evaluation)
    base = measured(dense, dense.evaluation if dense else None)
    assert ours is not None, "the stage has an evaluation"
    lead = " ".join(
        part for part in (state, _accuracies(ours, base, _budget(stage.evaluation))) if part
    )
    facts = [("Stage", f"{stage.name} of run {run.root.name}")]
    facts += _test_facts(stage.evaluation, stage.evaluation)
    one_seed = "One training seed; other seeds may give other numbers."
    facts.append(("How sure", " ".join([*_sureness(ours, base), one_seed])))
    place = stage.folder.relative_to(run.root).as_posix()
    facts.append(("The network", f"{place}/weights.safetensors"))
    return Verdict("open", f"{network} {_keeps(ours)}.", lead, _tiles(ours, base), facts)


def _keeps(network: Measured) -> str:
    share = f"keeps {percent(network.density)} of its weights"
    if network.nonzeros is None:
        return share
    if network.prunable is None:
        return f"{share} ({count(network.nonzeros)} non-zero)"
    return f"{share} ({count(network.nonzeros)} of {count(network.prunable)})"


def _accuracies(ours: Measured, base: Measured | None, budget: str) -> str:
    if ours.clean is None:
        return ""
    text = f"It classifies {percent(ours.clean)} of clean test images correctly"
    if ours.robust is not None:
        text += f" and {percent(ours.robust)} under attack ({budget})"
    if base is None or base.clean is None:
        return f"{text}. No dense network was evaluated beside it."
    text += f"; the dense network, {percent(base.clean)}"
    return text + (f" and {percent(base.robust)}." if base.robust is not None else ".")


def _budget(numbers: Row | Evaluation) -> str:
    return f"eps{SPACE}{eps_text(numbers.eps)}, {norm_text(numbers.norm)}"


def _on_validation(row: Row) -> str:
    if row.validation_clean is None:
        return "It has not been measured on test images."
    text = f"On validation images it classifies {percent(row.validation_clean)} correctly"
    if row.validation_robust is not None:
        text += f" and {percent(row.validation_robust)} under attack ({_budget(row)})"
    return f"{text}; test images were not used."


def _tiles(ours: Measured, base: Measured | None) -> list[Tile]:
    def tile(title: str, share: float | None, interval: Interval | None, dense: str) -> Tile:
        low_high = f"95{SPACE}% interval {percent_interval(interval)}" if interval else ""
        return Tile(title, percent(share), low_high, dense)

    def dense(share: float | None, interval: Interval | None) -> str:
        around = f" ({percent_interval(interval)})" if interval else ""
        return "" if share is None else f"dense {percent(share)}{around}"

    kept = f"{count(ours.nonzeros)} of {count(ours.prunable)}" if ours.prunable else ""
    tiles = [Tile("Weights left", percent(ours.density), kept, f"dense {percent(1)}")]
    clean, robust = (base.clean, base.clean_interval) if base else (None, None), (None, None)
    if base:
        robust = (base.robust, base.robust_interval)
    if ours.clean is not None:
        tiles.append(tile("Clean accuracy", ours.clean, ours.clean_interval, dense(*clean)))
    if ours.robust is not None:
        tiles.append(tile("Robust accuracy", ours.robust, ours.robust_interval, dense(*robust)))
    return tiles


def _test_facts(numbers: Row | Evaluation, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    facts = []
    if numbers.robust_accuracy is not None:
        facts.append(("Attack", f"{numbers.attack or MISSING} ({_budget(numbers)})"))
    if evaluation:
        name = "Test images" if evaluation.split == "test" else f"Images ({evaluation.split} split)"
        facts.append((name, count(evaluation.num_samples)))
    return facts


def _sureness(ours: Measured, base: Measured | None) -> list[str]:
    """Say for each accuracy whether its interval overlaps the dense network's."""
    if base is None:
        return []
    overlapping, sentences = [], []
    pairs = (
        ("clean", ours.clean, ours.clean_interval, base.clean, base.clean_interval),
        ("robust", ours.robust, ours.robust_interval, base.robust, base.robust_interval),
    )
    for name, share, around, dense, dense_around in pairs:
        if share is None or around is None or dense is None or dense_around is None:
            continue
        if around[0] <= dense_around[1] and dense_around[0] <= around[1]:
            overlapping.append(name)
            continue
        way = "loss" if share < dense else "gain"
        sentences.append(
            f"The {name} intervals do not overlap: the {way} of {points(share - dense)} is "
            "more than the choice of test images explains."
        )
    if overlapping:
        names = " and ".join(overlapping)
        same = f"The {names} intervals overlap: these images do not tell the two networks apart."
        sentences.insert(0, same)
    return sentences


def _seeds(row: Row) -> list[str]:
    robust = [r for _, r in row.per_seed if r is not None]
    clean = [c for c, _ in row.per_seed if c is not None]
    if max(len(robust), len(clean)) < 2:
        return ["One training seed; other seeds may give other numbers."]
    parts = [f"clean {percent_spread(clean)}"] if len(clean) > 1 else []
    parts += [f"robust {percent_spread(robust)}"] if len(robust) > 1 else []
    number = max(len(robust), len(clean))
    means = "the accuracies above are means, the network below is one of them"
    return [f"Over {number} training seeds: {', '.join(parts)} (mean and deviation); {means}."]


def _search_state(search: SearchData) -> str:
    if search.stopped == "budget":
        spent = f" after {duration(search.seconds)}" if search.seconds else ""
        return f"The search stopped{spent} because its time budget was used up."
    if search.stopped:
        return f"The search stopped: {search.stopped}."
    return "" if search.finished else "The search has not finished; this is what is known so far."


def _run_state(run: RunData) -> str:
    open_stages = [stage for stage in run.stages if stage.done is None]
    if not open_stages:
        return ""
    stage = open_stages[0]
    step = f", at step {count(stage.metrics[-1]['step'])}" if stage.metrics else ""
    return f"The run has not finished: stage {stage.name!r} is still open{step}."


def _size(search: SearchData) -> str:
    path = search.root / (search.best or "") / "weights.safetensors"
    return f" ({count(path.stat().st_size)} bytes)" if path.is_file() else ""
