"""Lines that measures found, of several networks in one plot, with the numbers as a table.

The form is that of `plots`.
"""

from collections.abc import Sequence
from typing import Any

from wiry.report.evaluations import CurveData, Evaluation
from wiry.report.parts import Cell, Table, TableLine
from wiry.report.plots import SYMBOLS, Plot, error_bars, label, series_color
from wiry.report.words import MISSING, eps_text, percent, plain, titled

NUM_SHOWN = 6
"""Networks in one plot; more lines than that cannot be told apart."""
_MOST_MARKERS = 12
_MOST_LINES = 21

Named = Sequence[tuple[str, CurveData]]


def overlay_plot(
    key: str, curves: Named, judged: Sequence[Evaluation | None] = (), *, caption: str = ""
) -> Plot | None:
    """Draw curves of one kind, one colour a network.

    Args:
        curves: name to show and curve; all of one name.
        judged: the evaluation that goes with each curve, if its attacks are to be marked: a dashed
            line at eps and, where the attacks were run, their robust accuracy with its interval.
    """
    shown = list(curves)[:NUM_SHOWN]
    if not shown:
        return None
    factor = 100 if are_shares(curve for _, curve in shown) else 1
    traces = [_line(position, *pair, factor) for position, pair in enumerate(shown)]
    marks = [_mark(i, e) for i, e in enumerate(judged[: len(shown)]) if e]
    traces += [mark for mark in marks if mark]
    first = shown[0][1]
    unit = " (%)" if factor == 100 else ""
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": label(first.x_label)}},
        "yaxis": {"title": {"text": f"{label(first.y_label)}{unit}"}, "rangemode": "tozero"},
        "hovermode": "closest",
    }
    radii = {e.eps for e in judged if e and e.eps is not None}
    if len(radii) == 1:
        layout |= _radius(radii.pop())
    few = f" {len(shown)} of {len(curves)} networks." if len(shown) < len(curves) else ""
    names = ", ".join(name for name, _ in shown)
    alt = f"{titled(first.name)}: {first.y_label} over {first.x_label} of {names}."
    text = f"{caption}{few}".strip()
    return Plot(key, titled(first.name), alt, text, traces, layout, 380, len(traces))


def are_shares(curves: Any) -> bool:
    """Say whether all values are in [0, 1], so that they are shown in percent."""
    return all(0 <= y <= 1 for curve in curves for y in curve.y)


def _line(position: int, name: str, curve: CurveData, factor: int) -> dict[str, Any]:
    color = series_color(position)
    few = len(curve.x) <= _MOST_MARKERS
    return {
        "type": "scatter",
        "mode": "lines+markers" if few else "lines",
        "name": label(name),
        "x": curve.x,
        "y": [factor * y for y in curve.y],
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "size": 7, "symbol": SYMBOLS[position % len(SYMBOLS)]},
        "hovertemplate": f"{label(name)}: %{{y:.4g}} at %{{x:.4g}}<extra></extra>",
    }


def _mark(position: int, evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the robust accuracy under the evaluation's attacks as a point with its interval."""
    eps, robust = evaluation.eps, evaluation.robust_accuracy
    if eps is None or robust is None:
        return None
    named = f"attacks ({evaluation.protocol})" if evaluation.protocol else "attacks"
    color, by = series_color(position), label(named)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"by {by}",
        "x": [eps],
        "y": [100 * robust],
        "error_y": error_bars([robust], [evaluation.robust_interval], color),
        "marker": {"color": color, "size": 11, "symbol": f"{SYMBOLS[position]}-open"},
        "hovertemplate": f"by {by}: {percent(robust)}<extra></extra>",
    }


def _radius(eps: float) -> dict[str, Any]:
    place = {"xref": "x", "yref": "y domain"}
    line = {"type": "line", "x0": eps, "x1": eps, "y0": 0, "y1": 1, "layer": "below"}
    look = {"line": {"color": "@limit", "width": 1.5, "dash": "dash"}}
    note = {
        "x": eps,
        "y": 1,
        "xanchor": "left",
        "yanchor": "top",
        "xshift": 4,
        "showarrow": False,
        "text": f"eps {eps_text(eps)}",
        "font": {"color": "@limit", "size": 12},
        "bgcolor": "@page-veil",
    }
    return {"shapes": [place | line | look], "annotations": [place | note]}


def points_table(curves: Named) -> Table:
    """Return the points of curves as a table, thinned out where there are many."""
    shown = list(curves)[:NUM_SHOWN]
    write = percent if are_shares(curve for _, curve in shown) else plain
    xs = sorted({x for _, curve in shown for x in curve.x})
    step = max(1, -(-len(xs) // _MOST_LINES))
    found = [dict(zip(curve.x, curve.y, strict=True)) for _, curve in shown]
    lines = [
        TableLine([Cell(plain(x)), *(Cell(write(y[x]) if x in y else MISSING) for y in found)])
        for x in xs[::step]
    ]
    first = shown[0][1]
    header = [first.x_label, *(name for name, _ in shown)]
    thin = f" One point in {step} is shown." if step > 1 else ""
    caption = f"{titled(first.name)}: {first.y_label}.{thin}"
    return Table(caption, header, lines, frozenset(range(len(header))), narrow=True)
