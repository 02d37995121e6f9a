"""The tables of a comparison's page: who wins where, and all the numbers."""

from wiry.report.compare import DENSE, Column, CompareCell, CompareData
from wiry.report.parts import Cell, Table, TableLine
from wiry.report.reading import interval, number, objects, text_of
from wiry.report.words import (
    MISSING,
    PLUS_MINUS,
    SPACE,
    count,
    duration,
    percent,
    percent_interval,
    quantity,
)


def winner_table(data: CompareData) -> Table:
    """Return the table of the winners, one line a sparsity."""
    lines = [_winner_line(data, column) for column in data.columns]
    header = [
        "Sparsity",
        "Most robust",
        "Robust",
        "Second",
        "Lead",
        "Verdict",
        "Ties with the best",
    ]
    caption = (
        f"Mean {PLUS_MINUS} deviation over the seeds on test images; the lead over the second is "
        f"paired, with its 95{SPACE}% interval. A tie: the interval of the difference contains 0."
    )
    return Table(caption, header, lines, frozenset({2, 4}))


def _winner_line(data: CompareData, column: Column) -> TableLine:
    cell = data.cell(column.winner, column.sparsity)
    if column.winner is None or cell is None:
        return TableLine([Cell(percent(column.sparsity)), *[Cell(MISSING)] * 6])
    sure = Cell("apart", "", "meets") if column.apart else Cell("not apart", "", "explored")
    difference, around = column.difference, column.interval
    gap = "" if difference is None else f"{100 * difference:+.1f} points"
    low_high = f"{100 * around[0]:+.1f} to {100 * around[1]:+.1f}" if around else ""
    return TableLine(
        [
            Cell(percent(column.sparsity)),
            Cell(column.winner, f"clean {_spread(cell.clean, cell.clean_deviation)}"),
            Cell(
                _spread(cell.robust, cell.robust_deviation), percent_interval(cell.robust_interval)
            ),
            Cell(column.second or MISSING),
            Cell(gap, low_high),
            sure if column.second else Cell(MISSING),
            Cell(_tied(column)),
        ]
    )


def _tied(column: Column) -> str:
    return ", ".join(column.tied) if column.tied else "none"


def finalist_table(data: CompareData) -> Table | None:
    """Return the table of the winners under AutoAttack, where all others are screened."""
    lines, protocols = [], []
    for row in objects(data.raw.get("finalists")):
        around = interval(row.get("robust_interval"))
        protocols.append(text_of(row.get("protocol")) or MISSING)
        cells = [
            Cell(str(row.get("method", "?"))),
            Cell(percent(number(row.get("sparsity")))),
            Cell(count(number(row.get("num_seeds")))),
            Cell(percent(number(row.get("screened_accuracy")))),
            Cell(
                percent(number(row.get("robust_accuracy"))),
                percent_interval(around) if around else "",
            ),
            Cell(protocols[-1]),
        ]
        lines.append(TableLine(cells, "baseline" if row.get("method") == DENSE else ""))
    if not lines:
        return None
    caption = (
        "Elsewhere on this page robust accuracies are screened; these met every attack. Means over "
        f"the seeds, with 95{SPACE}% intervals for seeds and images."
    )
    header = ["Method", "Sparsity", "Seeds", "Screened", "Robust", "Judged by"]
    return Table(caption, header, lines, frozenset({1, 2, 3, 4}))


def full_table(data: CompareData) -> Table:
    """Return the table of everything, methods by mean rank."""
    lines = [_line(data.dense, None)] if data.dense else []
    for method in data.by_rank:
        for sparsity in data.sparsities:
            if cell := data.cell(method, sparsity):
                column = next((c for c in data.columns if c.sparsity == sparsity), None)
                line = _line(cell, data.ranks.get(method))
                won = column is not None and column.winner == method
                lines.append(TableLine(line.cells, "chosen" if won else ""))
    header = [
        "Method",
        "Sparsity",
        "Weights left",
        "Robust",
        "Clean",
        "Training FLOPs",
        "Time",
        "Mean rank",
    ]
    caption = (
        f"Mean {PLUS_MINUS} deviation over the seeds with 95{SPACE}% intervals, test images. FLOPs "
        "of the training, dense; below, ideally sparse."
    )
    return Table(caption, header, lines, frozenset(range(1, 8)))


def _line(cell: CompareCell, rank: float | None) -> TableLine:
    sparse = quantity(cell.flops_sparse, "FLOP")
    return TableLine(
        [
            Cell(cell.method, "" if cell.ranked else "; ".join(cell.reasons)[:60]),
            Cell(percent(cell.sparsity)),
            Cell(percent(cell.density)),
            Cell(
                _spread(cell.robust, cell.robust_deviation), percent_interval(cell.robust_interval)
            ),
            Cell(_spread(cell.clean, cell.clean_deviation), percent_interval(cell.clean_interval)),
            Cell(quantity(cell.flops_dense, "FLOP"), "" if sparse == MISSING else sparse),
            Cell(duration(cell.seconds)),
            Cell(MISSING if rank is None else f"{rank:.1f}"),
        ],
        "baseline" if cell.method == "dense" else "",
    )


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None or deviation is None:
        return percent(mean)
    return f"{100 * mean:.1f} {PLUS_MINUS} {100 * deviation:.1f}{SPACE}%"
