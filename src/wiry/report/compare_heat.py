"""The heat map of a comparison: every method at every sparsity, beside the best of its column."""

from typing import Any

from wiry.report.compare import CompareCell, CompareData
from wiry.report.plots import Plot, label
from wiry.report.words import MISSING, PLUS_MINUS, percent, percent_interval, quantity

DEEPEST = 12.0
"""Points below the best at which the colour ends, so that one collapse does not drown the rest."""
STAR, TIE = "\N{BLACK STAR}", "\N{ALMOST EQUAL TO}"


def heat_plot(data: CompareData) -> Plot | None:
    """Draw robust accuracy as a table in colours: methods by rank, sparsities left to right."""
    if not any(cell.robust is not None for cell in data.cells.values()):
        return None
    methods = data.by_rank
    best = {
        c.sparsity: cell.robust for c in data.columns if (cell := data.cell(c.winner, c.sparsity))
    }
    shade = {
        "type": "heatmap",
        "x": [percent(s) for s in data.sparsities],
        "y": [label(method) for method in methods],
        "z": [[_below(data.cell(m, s), best) for s in data.sparsities] for m in methods],
        "text": [[_shown(data, m, s) for s in data.sparsities] for m in methods],
        "customdata": [[hover(m, data.cell(m, s)) for s in data.sparsities] for m in methods],
        "texttemplate": "%{text}",
        "textfont": {"color": "@ink"},
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": True,
        "colorscale": [[0, "@heat-low"], [1, "@heat-high"]],
        "zmin": -DEEPEST,
        "zmax": 0,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
    }
    layout = _heat_layout(data, best)
    caption = (
        f"Robust accuracy on test images in percent, mean {PLUS_MINUS} deviation over the seeds; "
        "methods in the order of their mean rank. The stronger the colour, the nearer to the best "
        f"of the column. {STAR} is the best; {TIE} cannot be told from it by these "
        "seeds and images; in brackets: not ranked."
    )
    alt = "Robust accuracy of every method at every sparsity; the numbers are in the table below."
    height = 90 + 26 * len(methods)
    return Plot("heat", "Robust accuracy", alt, caption, [shade], layout, height)


def _heat_layout(data: CompareData, best: dict[float, float | None]) -> dict[str, Any]:
    """Return the axes, and the words where there is no colour."""
    methods = data.by_rank
    gaps = [
        {"x": percent(s), "y": label(m), "text": _heat_text(data, m, s), "showarrow": False}
        | {"font": {"color": "@muted", "size": 12}}
        for m in methods
        for s in data.sparsities
        if _below(data.cell(m, s), best) is None
    ]
    return {
        "xaxis": {
            "side": "top",
            "type": "category",
            "showgrid": False,
            "title": {"text": "sparsity"},
        },
        "yaxis": {
            "autorange": "reversed",
            "dtick": 1,
            "type": "category",
            "automargin": True,
            "showgrid": False,
        },
        "annotations": gaps,
        "margin": {"l": 52, "r": 14, "t": 60, "b": 14},
    }


def _below(cell: CompareCell | None, best: dict[float, float | None]) -> float | None:
    """Return the points below the best of the column, at most `DEEPEST`; None if not ranked."""
    if cell is None or cell.robust is None or not cell.ranked:
        return None
    return max(-DEEPEST, 100 * (cell.robust - (best.get(cell.sparsity) or 0.0)))


def _shown(data: CompareData, method: str, sparsity: float) -> str:
    cell = data.cell(method, sparsity)
    return _heat_text(data, method, sparsity) if cell and cell.ranked else ""


def _heat_text(data: CompareData, method: str, sparsity: float) -> str:
    cell = data.cell(method, sparsity)
    if cell is None:
        return MISSING
    if cell.robust is None:
        return "not possible" if cell.reasons else MISSING
    text = f"{100 * cell.robust:.1f}"
    if cell.robust_deviation is not None:
        text += f" {PLUS_MINUS} {100 * cell.robust_deviation:.1f}"
    column = next((c for c in data.columns if c.sparsity == sparsity), None)
    if column and column.winner == method:
        return f"<b>{text} {STAR}</b>"
    if column and method in column.tied:
        return f"{text} {TIE}"
    return text if cell.ranked else f"({text})"


def hover(method: str, cell: CompareCell | None) -> str:
    """Return what is shown where the pointer rests on a cell."""
    if cell is None:
        return f"<b>{label(method)}</b>: not trained yet"
    lines = [f"<b>{label(method)}</b>, {percent(cell.sparsity)} sparsity asked for"]
    if cell.robust is not None:
        lines += [
            f"robust: {percent(cell.robust)} ({percent_interval(cell.robust_interval)})",
            f"clean: {percent(cell.clean)} ({percent_interval(cell.clean_interval)})",
            f"weights left: {percent(cell.density)}",
            f"training: {quantity(cell.flops_sparse, 'FLOP')} ideally sparse, "
            f"{quantity(cell.flops_dense, 'FLOP')} dense",
        ]
    return "<br>".join([*lines, *(label(reason)[:90] for reason in cell.reasons)])
