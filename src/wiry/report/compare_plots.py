"""Interactive plots of a comparison: robust accuracy against weights left and against cost."""

from collections.abc import Sequence
from typing import Any

from wiry.report.compare import CompareCell, CompareData
from wiry.report.compare_heat import hover
from wiry.report.plots import SYMBOLS, Plot, density_axis, error_bars, label, series_color
from wiry.report.words import SPACE, percent

NUM_SHOWN = 5
"""Methods with a colour of their own; more lines than that cannot be told apart."""


def lines_plot(data: CompareData) -> Plot | None:
    """Draw robust accuracy against weights left: the best few in colour, the rest in grey."""
    curves = [(m, found) for m in data.by_rank if len(found := _curve(data, m)) > 1]
    if not curves:
        return None
    shown, rest = curves[:NUM_SHOWN], curves[NUM_SHOWN:]
    traces = [_grey(m, cells, first=i == 0, num=len(rest)) for i, (m, cells) in enumerate(rest)]
    for position, (method, cells) in enumerate(shown):
        traces.append(_colored(method, cells, position))
    densities = [1 - sparsity for sparsity in data.sparsities]
    layout: dict[str, Any] = {
        "xaxis": density_axis(densities),
        "yaxis": {"title": {"text": "robust accuracy (%)"}},
        "hovermode": "closest",
    }
    if data.dense and data.dense.robust is not None:
        layout |= _dense_band(data.dense)
    caption = (
        f"The {len(shown)} methods of the best mean rank in colour with 95{SPACE}% intervals "
        "(seeds and images; side by side so that they can be read), the others in grey: point at a "
        "line to see which. The band is the dense network."
    )
    alt = "Robust accuracy against weights left; the numbers are in the table."
    legend = len(shown) + bool(rest)
    return Plot(
        "lines", "Robust accuracy against weights left", alt, caption, traces, layout, 420, legend
    )


def _curve(data: CompareData, method: str) -> list[CompareCell]:
    cells = [data.cell(method, sparsity) for sparsity in data.sparsities]
    return [cell for cell in cells if cell and cell.ranked and cell.robust is not None]


def _colored(method: str, cells: Sequence[CompareCell], position: int) -> dict[str, Any]:
    color = series_color(position)
    shift = 1.035 ** (position - NUM_SHOWN // 2)
    values = [cell.robust for cell in cells]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(method),
        "x": [100 * (1 - cell.sparsity) * shift for cell in cells],
        "y": [None if v is None else 100 * v for v in values],
        "error_y": error_bars(values, [cell.robust_interval for cell in cells], color),
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "size": 8, "symbol": SYMBOLS[position % len(SYMBOLS)]},
        "customdata": [hover(method, cell) for cell in cells],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _grey(method: str, cells: Sequence[CompareCell], *, first: bool, num: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"{num} others",
        "legendgroup": "others",
        "showlegend": first,
        "x": [100 * (1 - cell.sparsity) for cell in cells],
        "y": [100 * (cell.robust or 0.0) for cell in cells],
        "line": {"color": "@faint", "width": 1.2},
        "marker": {"color": "@faint", "size": 5},
        "customdata": [hover(method, cell) for cell in cells],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _dense_band(dense: CompareCell) -> dict[str, Any]:
    robust = 100 * (dense.robust or 0.0)
    place = {"xref": "x domain", "yref": "y", "x0": 0, "x1": 1, "layer": "below"}
    line = {"type": "line", "y0": robust, "y1": robust, "line": {"color": "@muted", "width": 1}}
    shapes = [place | line]
    if dense.robust_interval:
        low, high = (100 * end for end in dense.robust_interval)
        band = {"type": "rect", "y0": low, "y1": high, "fillcolor": "@band", "line": {"width": 0}}
        shapes.append(place | band)
    note = {
        "xref": "x domain",
        "yref": "y",
        "x": 0.99,
        "y": robust,
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
        "text": f"dense {percent(dense.robust)}",
        "font": {"color": "@muted", "size": 12},
    }
    return {"shapes": shapes, "annotations": [note]}


def cost_plots(data: CompareData) -> list[Plot]:
    """Draw robust accuracy against the cost of training, a plot a sparsity, the frontier named."""
    plots = []
    for sparsity in data.sparsities:
        cells = [c for m in data.methods if (c := data.cell(m, sparsity)) and c.ranked]
        cells = [c for c in cells if c.robust is not None and c.flops_sparse]
        if len(cells) > 1:
            plots.append(_cost_plot(sparsity, cells))
    return plots


def frontier(cells: Sequence[CompareCell]) -> list[CompareCell]:
    """Return the cells that no cheaper one equals in robust accuracy, from the cheapest on."""
    found: list[CompareCell] = []
    for cell in sorted(cells, key=lambda c: (c.flops_sparse or 0.0, -(c.robust or 0.0))):
        if not found or (cell.robust or 0.0) > (found[-1].robust or 0.0):
            found.append(cell)
    return found


def _cost_plot(sparsity: float, cells: Sequence[CompareCell]) -> Plot:
    front = frontier(cells)
    behind = [cell for cell in cells if cell not in front]

    def points(chosen: Sequence[CompareCell], look: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "scatter",
            "x": [(cell.flops_sparse or 0.0) / 1e9 for cell in chosen],
            "y": [100 * (cell.robust or 0.0) for cell in chosen],
            "customdata": [hover(cell.method, cell) for cell in chosen],
            "hovertemplate": "%{customdata}<extra></extra>",
        } | look

    grey = {"mode": "markers", "marker": {"color": "@faint", "size": 8}}
    line = {
        "mode": "lines+markers+text",
        "line": {"color": "@series-0", "width": 1.5, "shape": "hv"},
        "marker": {"color": "@series-0", "size": 17},
        "text": [str(number) for number, _ in enumerate(front, start=1)],
        "textfont": {"color": "@page", "size": 11},
        "cliponaxis": False,
    }
    layout = {
        "xaxis": {
            "title": {"text": "training cost, ideally sparse (GFLOP)"},
            "rangemode": "tozero",
        },
        "yaxis": {"title": {"text": "robust accuracy (%)"}},
        "hovermode": "closest",
    }
    named = ", ".join(f"{number} {cell.method}" for number, cell in enumerate(front, start=1))
    caption = f"As robust at less cost there is none: {named}."
    alt = (
        f"Robust accuracy against training cost at {percent(sparsity)} sparsity. Frontier: {named}."
    )
    title = f"{percent(sparsity)} sparsity"
    key = f"cost-{round(1e6 * sparsity)}"
    return Plot(key, title, alt, caption, [points(behind, grey), points(front, line)], layout, 340)
