"""The page of a comparison: which method wins where, how surely, and at what cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wiry.report.compare import Column, CompareData, collect_comparison
from wiry.report.compare_heat import heat_plot
from wiry.report.compare_judged import (
    Judged,
    curve_section,
    judging_warnings,
    protocol_text,
    read_judged,
)
from wiry.report.compare_plots import cost_plots, lines_plot
from wiry.report.compare_tables import finalist_table, full_table, winner_table
from wiry.report.parts import Section, chart
from wiry.report.verdict_parts import Tile, Verdict
from wiry.report.words import (
    SPACE,
    duration,
    eps_text,
    norm_text,
    percent,
    percent_interval,
)


def comparison_context(root: Path) -> dict[str, Any]:
    """Return what the template needs for the page of a comparison."""
    data = collect_comparison(root)
    judged = read_judged(data)
    name = f"{data.text('model')} on {data.text('data')}"
    sections = [Section("winners", "Which method wins where", winner_table(data))]
    if finalists := finalist_table(data):
        sections.append(Section("finalists", "The winners under all attacks", finalists))
    if heat := heat_plot(data):
        sections.append(
            Section(
                "methods",
                "All methods",
                full_table(data),
                table_first=False,
                summary="All numbers as a table",
                plots=[chart(heat)],
            )
        )
    if lines := lines_plot(data):
        sections.append(Section("lines", lines.title, plots=[chart(lines)]))
    if curves := curve_section(data, judged):
        sections.append(curves)
    if costs := cost_plots(data):
        charts = [chart(plot, position) for position, plot in enumerate(costs)]
        sections.append(Section("costs", "What robustness costs to train", plots=charts))
    if reasons := reasons_of(data):
        sections.append(Section("reasons", "What could not be compared", notes=reasons))
    sections.append(Section("reading", "How to read this", notes=[*READING, *data.notes]))
    return {
        "title": f"{name} \N{EN DASH} wiry comparison",
        "kicker": f"Comparison {data.root.resolve().name}",
        "warnings": [*judging_warnings(judged), *warnings_of(data)],
        "verdict": comparison_verdict(data, judged),
        "sections": sections,
    }


READING = (
    "All methods have the same data, dense training, attack, optimizer settings and number of "
    "epochs after the dense training; those that need no dense network get its epochs on top. "
    "Iterative ones (lottery tickets) train that long at every level; the cost says so.",
    "Hyperparameters are each method's published defaults, not tuned to this data set.",
    "Intervals are of 95 %, over the seeds and the choice of test images together. Differences to "
    "the best are paired: the same seeds, the same images. The best of many is a little lucky.",
    "FLOPs count one optimizer step with its attack, times the steps, two a multiply-accumulate. "
    "Dense: what dense kernels compute. Ideally sparse: each layer's share times the weights it "
    "had at the time, which no kernel reaches. What a method computes besides the steps is in the "
    "seconds only.",
    "Seconds are of the machine that trained, with several trainings at once; take them with care.",
)


def comparison_verdict(data: CompareData, judged: Sequence[Judged] = ()) -> Verdict:
    """Write the verdict: the winners, how sure they are, and the setting."""
    won = [column for column in data.columns if column.winner]
    protocol = protocol_text(judged)
    attacks = data.text("judge").removeprefix("screened: ") if protocol else data.text("judge")
    by = (protocol, f"{attacks} (worst case an image)")
    facts = [
        ("Network", f"{data.text('model')} on {data.text('data')}"),
        ("Compared", _compared(data)),
        (
            "Training",
            f"{data.text('train')}; {data.raw.get('dense_epochs')} epochs dense, "
            f"{data.raw.get('sparse_epochs')} after",
        ),
        ("Judged by", ": ".join(part for part in by if part)),
    ]
    ranked = [m for m in data.by_rank if m in data.ranks][:3]
    if ranked:
        text = ", ".join(f"{m} ({data.ranks[m]:.1f})" for m in ranked)
        facts.insert(2, ("Best mean rank", f"{text} of {len(data.ranks)}"))
    seconds = data.raw.get("seconds")
    if isinstance(seconds, int | float):
        facts.append(("Time", duration(float(seconds))))
    if not won:
        return Verdict("open", "Nothing can be ranked yet.", "", [], facts)
    finished = data.raw.get("finished") is True
    tiles = [_tile(data, column) for column in won]
    return Verdict("found" if finished else "open", _headline(won), _sureness(won), tiles, facts)


def _compared(data: CompareData) -> str:
    seeds = data.raw.get("seeds")
    num_seeds = len(seeds) if isinstance(seeds, list) else 0
    eps = data.raw.get("eps")
    budget = f"eps{SPACE}{eps_text(eps if isinstance(eps, float) else None)}"
    return (
        f"{len(data.methods)} methods at {len(data.sparsities)} sparsities with {num_seeds} seeds, "
        f"{budget}, {norm_text(data.text('norm'))}"
    )


def _headline(won: list[Column]) -> str:
    places: dict[str, list[str]] = {}
    for column in won:
        places.setdefault(column.winner or "", []).append(percent(column.sparsity))
    if len(places) == 1:
        (winner,) = places
        where = "every sparsity" if len(won) > 1 else f"{percent(won[0].sparsity)} sparsity"
        return f"{winner} is the most robust at {where}."
    parts = [f"{winner} at {' and '.join(where)}" for winner, where in places.items()]
    return f"The most robust: {', '.join(parts)} sparsity."


def _sureness(won: list[Column]) -> str:
    sentences = []
    for column in won:
        if column.second is None or column.difference is None or column.interval is None:
            continue
        low, high = (100 * end for end in column.interval)
        lead = f"{100 * column.difference:.1f} points ({low:+.1f} to {high:+.1f})"
        verb = "is apart from" if column.apart else "cannot be told from"
        pair = f"{column.winner} {verb} the second, {column.second}"
        sentences.append(f"At {percent(column.sparsity)} {pair}: {lead}.")
    return " ".join(sentences)


def _tile(data: CompareData, column: Column) -> Tile:
    cell = data.cell(column.winner, column.sparsity)
    around = percent_interval(cell.robust_interval) if cell else ""
    dense = data.dense
    return Tile(
        f"{percent(column.sparsity)} sparsity: {column.winner}",
        percent(cell.robust if cell else None),
        f"robust, 95{SPACE}% interval {around}",
        f"dense {percent(dense.robust)}" if dense else "",
    )


def reasons_of(data: CompareData) -> list[str]:
    """Say of each method that is not ranked somewhere, why; equal reasons once."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in data.cells.values():
        for reason in cell.reasons:
            found.setdefault((cell.method, reason), []).append(percent(cell.sparsity))
    return [f"{m} at {', '.join(where)}: {reason}" for (m, reason), where in found.items()]


def warnings_of(data: CompareData) -> list[str]:
    """Return what a reader must know first."""
    warnings = []
    if data.raw.get("finished") is not True:
        warnings.append("The comparison has not finished: means and ranks are of what is there.")
    return warnings
