"""The verdict in plain sentences: what was found, how good it is, how sure, where it lies."""

from wiry.report.evaluations import Evaluation
from wiry.report.records import Row, RunData, SearchData
from wiry.report.verdict_parts import (
    Verdict,
    accuracies,
    budget,
    keeps,
    measured,
    sureness,
    test_facts,
    tiles,
)
from wiry.report.words import count, duration, percent, percent_spread


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
        tone, headline = "found", f"{network} {keeps(ours)}."
    else:
        tone = "not-found"
        limits = f": {search.thresholds_text}" if search.thresholds_text else ""
        headline = f"No sparse {network} meets the limits{limits}."
        state = f"{state} The nearest, by {row.method}, {keeps(ours)}.".strip()
    numbers = accuracies(ours, base, budget(row)) or _on_validation(row)
    lead = " ".join(part for part in (state, numbers) if part)
    facts = [("Method", row.method), *test_facts(row, subject)]
    facts.append(("How sure", " ".join([*sureness(ours, base), *_seeds(row)])))
    if search.winner and search.best:
        facts.append(("The network", f"{search.best}/weights.safetensors{_size(search)}"))
    elif row.run:
        facts.append(("The network", f"{row.run}, stage {row.stage}"))
    return Verdict(tone, headline, lead, tiles(ours, base), facts)


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
        part for part in (state, accuracies(ours, base, budget(stage.evaluation))) if part
    )
    facts = [("Stage", f"{stage.name} of run {run.root.name}")]
    facts += test_facts(stage.evaluation, stage.evaluation)
    one_seed = "One training seed; other seeds may give other numbers."
    facts.append(("How sure", " ".join([*sureness(ours, base), one_seed])))
    place = stage.folder.relative_to(run.root).as_posix()
    facts.append(("The network", f"{place}/weights.safetensors"))
    return Verdict("open", f"{network} {keeps(ours)}.", lead, tiles(ours, base), facts)


def _on_validation(row: Row) -> str:
    if row.validation_clean is None:
        return "It has not been measured on test images."
    text = f"On validation images it classifies {percent(row.validation_clean)} correctly"
    if row.validation_robust is not None:
        text += f" and {percent(row.validation_robust)} under attack ({budget(row)})"
    return f"{text}; test images were not used."


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
