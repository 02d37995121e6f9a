"""Interactive plots of accuracy against density as plotly.js descriptions.

A plot is plain data: the page's script fills in its colours (`@series-0`, `@ink`, ...) from the
style sheet, so that one description serves light, dark and print. Names come from files and are
escaped here, because plotly reads a little HTML in its texts.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wiry.report.records import Row, SearchData
from wiry.report.words import percent, percent_interval

NUM_COLORS = 8
NUM_RAMP = 8
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
CATEGORIES: dict[str, Any] = {
    "autorange": "reversed",
    "automargin": True,
    "type": "category",
    "showgrid": False,
}
"""An axis of names, the first at the top."""
DENSITY_TICKS: list[float] = [100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01]


@dataclass(frozen=True)
class Plot:
    """One figure of the page: what it is called, what it shows in words, and the description."""

    key: str
    title: str
    alt: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 360
    num_legend: int = 0


def label(text: object) -> str:
    """Escape a name for plotly, which would otherwise read markup in it."""
    return html.escape(str(text), quote=False)


def series_color(position: int) -> str:
    """Return the token of a series' colour."""
    return f"@series-{position % NUM_COLORS}"


def ramp_color(position: int, num: int) -> str:
    """Return the token of a colour on the ramp from the densest to the sparsest of `num` levels."""
    return f"@ramp-{round((NUM_RAMP - 1) * position / max(1, num - 1))}"


def density_axis(densities: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis for shares of weights in percent, sparser to the right."""
    shares = [100 * d for d in densities if d and d > 0] or [100.0]
    low, high = math.log10(min(shares)), math.log10(max(shares))
    ticks = DENSITY_TICKS if high - low > 1 else sorted({*DENSITY_TICKS, 70, 40, 30, 15, 7, 4, 3})
    pad = max(0.08, 0.04 * (high - low))
    return {
        "type": "log",
        "title": {"text": "weights left (%), logarithmic"},
        "range": [high + pad, low - pad],
        "tickvals": ticks,
        "ticktext": [f"{t:g}" for t in ticks],
    }


def density_plot(search: SearchData) -> Plot | None:
    """Draw robust and clean accuracy against density, one colour per method."""
    rows = [r for r in search.candidates if r.density]
    if not rows:
        return None
    traces: list[dict[str, Any]] = []
    for position, method in enumerate(dict.fromkeys(r.method for r in rows)):
        mine = sorted((r for r in rows if r.method == method), key=lambda r: -(r.density or 0))
        for panel, robust in enumerate((True, False)):
            traces += _method_traces(method, mine, position, panel, robust)
    dense_density = [search.dense.density or 1.0] if search.dense else []
    axis = density_axis([r.density or 1 for r in rows] + dense_density)
    shapes, notes = _baseline(search)
    layout = {
        "grid": {"rows": 2, "columns": 1, "pattern": "independent", "ygap": 0.12},
        "xaxis": axis | {"title": {"text": ""}, "matches": "x2"},
        "xaxis2": axis,
        "yaxis": {"title": {"text": "robust accuracy (%)"}},
        "yaxis2": {"title": {"text": "clean accuracy (%)"}},
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
    }
    return Plot(
        "density",
        "Accuracy against weights left",
        _density_alt(rows),
        "Above under attack, below on clean images. Open, joined by lines: validation images, on "
        "which the choice was made, with the limits dashed. Filled: test images with 95 % "
        "intervals, to be compared with the grey band, the dense network's on test images.",
        traces,
        layout,
        height=640,
        num_legend=len(traces) // 4,
    )


def _method_traces(
    method: str, rows: list[Row], position: int, panel: int, robust: bool
) -> list[dict[str, Any]]:
    """Return a method's line over validation images and, unconnected, its points on test images."""
    suffix = "" if panel == 0 else "2"
    symbol, color = SYMBOLS[position % len(SYMBOLS)], series_color(position)
    base = {
        "type": "scatter",
        "name": label(method),
        "legendgroup": f"method-{position}",
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "x": [100 * (r.density or 0) for r in rows],
        "customdata": [_hover(r, robust) for r in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    chosen = [r.validation_robust if robust else r.validation_clean for r in rows]
    tested = [r.robust_accuracy if robust else r.clean_accuracy for r in rows]
    around = [r.robust_interval if robust else r.clean_interval for r in rows]
    line = {
        "mode": "lines+markers",
        "y": _in_percent(chosen),
        "line": {"color": color, "width": 1.5},
        "marker": {"color": color, "size": 8, "symbol": f"{symbol}-open"},
        "showlegend": panel == 0,
    }
    points = {
        "mode": "markers",
        "y": _in_percent(tested),
        "error_y": error_bars(tested, around, color),
        "marker": {"color": color, "size": 10, "symbol": symbol},
        "showlegend": False,
    }
    return [base | line, base | points]


def _in_percent(shares: Sequence[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def error_bars(
    values: Sequence[float | None], intervals: Sequence[tuple[float, float] | None], color: str
) -> dict[str, Any]:
    """Return plotly's error bars from shares and their intervals."""
    pairs = list(zip(values, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (i[1] - v) if i and v is not None else 0 for v, i in pairs],
        "arrayminus": [100 * (v - i[0]) if i and v is not None else 0 for v, i in pairs],
        "color": color,
        "thickness": 1.5,
        "width": 4,
    }


def _hover(row: Row, robust: bool) -> str:
    kind = "robust" if robust else "clean"
    tested = row.robust_accuracy if robust else row.clean_accuracy
    around = row.robust_interval if robust else row.clean_interval
    validation = row.validation_robust if robust else row.validation_clean
    lines = [f"<b>{label(row.method)}</b>, {percent(row.density)} of the weights"]
    if tested is not None:
        lines.append(f"{kind}, test: {percent(tested)} ({percent_interval(around)})")
    if validation is not None:
        lines.append(f"{kind}, validation: {percent(validation)}")
    return "<br>".join(lines)


def _baseline(search: SearchData) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the dense network's bands and the limits' lines of both panels, with their names."""
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    dense = search.dense
    panels = (
        ("", "y", dense and dense.robust_accuracy, dense and dense.robust_interval, "robust"),
        ("2", "y2", dense and dense.clean_accuracy, dense and dense.clean_interval, "clean"),
    )
    for suffix, axis, share, around, kind in panels:
        place = {"xref": f"x{suffix} domain", "yref": axis}
        across = place | {"type": "line", "x0": 0, "x1": 1, "layer": "below"}
        if share is not None:
            if around:
                band = {"type": "rect", "y0": 100 * around[0], "y1": 100 * around[1]}
                shapes.append(across | band | {"fillcolor": "@band", "line": {"width": 0}})
            line = {"y0": 100 * share, "y1": 100 * share, "line": {"color": "@muted", "width": 1}}
            shapes.append(across | line)
            notes.append(_note(place, share, f"dense (test) {percent(share)}", "bottom", left=True))
        limit = search.constraint.get(kind)
        if limit is not None:
            dashed = {"color": "@limit", "width": 1.5, "dash": "dash"}
            shapes.append(across | {"y0": 100 * limit, "y1": 100 * limit, "line": dashed})
            notes.append(
                _note(place, limit, f"limit (validation) {percent(limit)}", "top", left=False)
            )
    return shapes, notes


def _note(
    place: dict[str, Any], share: float, text: str, anchor: str, *, left: bool
) -> dict[str, Any]:
    side = {"x": 0.01, "xanchor": "left"} if left else {"x": 0.99, "xanchor": "right"}
    color = "@muted" if left else "@limit"
    font = {"color": color, "size": 12}
    where = {"y": 100 * share, "yanchor": anchor, "showarrow": False, "font": font}
    return place | side | where | {"text": text, "bgcolor": "@page-veil"}


def _density_alt(rows: Sequence[Row]) -> str:
    methods = ", ".join(dict.fromkeys(r.method for r in rows))
    low, high = min(r.density or 1 for r in rows), max(r.density or 1 for r in rows)
    return (
        f"Robust and clean accuracy of {len(rows)} candidates ({methods}) with {percent(low)} to "
        f"{percent(high)} of the weights left; the values are in the table of candidates."
    )
