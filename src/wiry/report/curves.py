"""Interactive plots of a run: training curves, and by density accuracy, early stopping and weights.

The form is that of `plots`. The last two are figures of Cosentino et al. 2019 (arXiv 1912.02386):
3, 5, 9 and 11 (early stopping) and 13-15 (initial weights).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wiry.report.plots import (
    SYMBOLS,
    Plot,
    density_axis,
    error_bars,
    label,
    ramp_color,
    series_color,
)
from wiry.report.records import RunData, StageData
from wiry.report.series import (
    choose_levels,
    curve,
    early_stop,
    initial_weights,
    kernel_density,
    metric_key,
)
from wiry.report.words import percent, percent_interval

_METRICS = (
    ("accuracy", "Clean accuracy while training", "clean accuracy (%)", 100),
    ("robust_accuracy", "Robust accuracy while training", "robust accuracy (%)", 100),
    ("loss", "Loss while training", "loss", 1),
)
WEIGHT_DENSITIES = (1.0, 0.513, 0.169, 0.036)
"""The densities of figures 13-15 of Cosentino et al. 2019."""


def curve_plots(stages: Sequence[tuple[str, StageData]]) -> list[Plot]:
    """Draw accuracy, robust accuracy and loss against the training step, one colour per stage.

    Args:
        stages: name to show and stage. Of many, the six of the densities in the paper are shown.
    """
    drawn = [pair for pair in stages if pair[1].metrics]
    positions = choose_levels([stage.density for _, stage in drawn])
    shown = [drawn[position] for position in positions] if len(drawn) > 6 else drawn
    plots = (_curve_plot(shown, *metric) for metric in _METRICS)
    found = [plot for plot in plots if plot]
    few = f" {len(shown)} of {len(drawn)} stages." if len(shown) < len(drawn) else ""
    return [replace(plot, caption=plot.caption + few) for plot in found]


def _curve_plot(
    stages: Sequence[tuple[str, StageData]], name: str, title: str, axis: str, factor: int
) -> Plot | None:
    key = metric_key((stage for _, stage in stages), name)
    many = len(stages) > 4
    traces = []
    for position, (text, stage) in enumerate(stages):
        color = ramp_color(position, len(stages)) if many else series_color(position)
        look = {"name": label(text), "legendgroup": f"stage-{position}"}
        ways = [(key, "solid"), (f"train_{name}", "dot" if key else "solid")]
        for metric, dash in ways:
            if metric is None or (dash == "dot" and many):
                continue
            steps, values = curve(stage, metric)
            if steps:
                line = _curve(metric, steps, [factor * v for v in values], color, dash)
                line["hovertemplate"] = f"{label(text)}, {line['hovertemplate']}"
                traces.append(look | line)
    if not traces:
        return None
    split = "training" if key is None else key.partition("_")[0]
    dotted = " Dotted: training images." if any(t["line"]["dash"] == "dot" for t in traces) else ""
    alt = f"{title} of {', '.join(text for text, _ in stages)}."
    layout = {
        "xaxis": {"title": {"text": "training step"}, "tickformat": ","},
        "yaxis": {"title": {"text": axis}},
    }
    legend = sum(bool(t["showlegend"]) for t in traces)
    caption = f"On {split} images.{dotted}"
    return Plot(f"curve-{name}", title, alt, caption, traces, layout, num_legend=legend)


def _curve(
    metric: str, steps: list[float], values: list[float], color: str, dash: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(steps) > 1 else "markers",
        "showlegend": dash == "solid",
        "x": steps,
        "y": values,
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"color": color},
        "opacity": 0.55 if dash == "dot" else 1,
        "hovertemplate": f"{metric.partition('_')[0]}, step %{{x:,}}: %{{y:.4g}}<extra></extra>",
    }


def stage_plot(run: RunData) -> Plot | None:
    """Draw clean and robust accuracy of a run's evaluated stages against density."""
    stages = [(s, s.evaluation) for s in run.stages if s.evaluation and s.density]
    if len({s.density for s, _ in stages}) < 2:
        return None
    traces = []
    for position, kind in enumerate(("clean", "robust")):
        values = [getattr(e, f"{kind}_accuracy") for _, e in stages if e]
        around = [getattr(e, f"{kind}_interval") for _, e in stages if e]
        if all(value is None for value in values):
            continue
        color = series_color(position)
        texts = [f"{label(s.name)}, {percent(s.density)} of the weights" for s, _ in stages]
        bars = [
            f"{text}<br>{kind}: {percent(value)} ({percent_interval(bar)})"
            for text, value, bar in zip(texts, values, around, strict=True)
        ]
        trace = {"type": "scatter", "mode": "lines+markers", "name": kind, "customdata": bars}
        look = {"color": color, "size": 9, "symbol": SYMBOLS[position]}
        traces.append(
            trace
            | {
                "x": [100 * (s.density or 1) for s, _ in stages],
                "y": [None if v is None else 100 * v for v in values],
                "error_y": error_bars(values, around, color),
                "line": {"color": color, "width": 2},
                "marker": look,
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        )
    layout = {
        "xaxis": density_axis([s.density or 1 for s, _ in stages]),
        "yaxis": {"title": {"text": "accuracy (%)"}},
    }
    alt = f"Accuracy of {len(stages)} stages against the share of weights left; see the table."
    caption = "Stages in the order of the recipe, with 95 % intervals of the accuracies."
    title = "Accuracy against weights left"
    return Plot("density", title, alt, caption, traces, layout, 400, len(traces))


def early_stop_plots(run: RunData) -> list[Plot]:
    """Draw the early-stopping step and the validation accuracies there against density."""
    found = [(stage, row) for stage in run.stages if stage.density and (row := early_stop(stage))]
    if len(found) < 4:
        return []
    densities = [stage.density or 1 for stage, _ in found]
    text = (
        "Where the validation loss was least: the mean of clean and attacked where both were "
        "measured. Training itself ran to its end."
    )
    plots = []
    for key, title, axis, factor in (
        ("step", "Early-stopping step", "training step", 1),
        ("validation_accuracy", "Clean accuracy there", "validation accuracy (%)", 100),
        ("validation_robust_accuracy", "Robust accuracy there", "validation accuracy (%)", 100),
    ):
        values = [row.get(key) for _, row in found]
        if all(value is None for value in values):
            continue
        trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [100 * d for d in densities],
            "y": [None if v is None else factor * v for v in values],
            "text": [f"{label(s.name)}, {percent(s.density)}" for s, _ in found],
            "line": {"color": "@series-0", "width": 2},
            "marker": {"color": "@series-0", "size": 8},
            "hovertemplate": "%{text}: %{y:,.4g}<extra></extra>",
        }
        layout = {
            "xaxis": density_axis(densities),
            "yaxis": {"title": {"text": axis}, "tickformat": "," if factor == 1 else ""},
        }
        alt = f"{title} against the share of weights left, {len(found)} stages."
        plots.append(Plot(f"early-{key}", title, alt, text, [trace], layout))
    return plots


def weight_plots(run: RunData, most_layers: int = 6) -> list[Plot]:
    """Draw, per layer, how the initial values of the weights that survive are distributed."""
    positions = choose_levels([stage.density for stage in run.stages], WEIGHT_DENSITIES)
    stages = [run.stages[position] for position in positions]
    weights = [(stage, initial_weights(stage)) for stage in stages]
    weights = [(stage, values) for stage, values in weights if values]
    if len(weights) < 2:
        return []
    layers = [name for name, values in weights[0][1].items() if values.size > 1][:most_layers]
    return [_weight_plot(name, weights) for name in layers]


def _weight_plot(layer: str, weights: list[tuple[StageData, dict[str, np.ndarray]]]) -> Plot:
    traces: list[dict[str, Any]] = []
    grid = weight_grid([values[layer] for _, values in weights if layer in values])
    for position, (stage, values) in enumerate(weights):
        if layer not in values:
            continue
        density = kernel_density(values[layer], grid)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{label(stage.name)}, {percent(stage.density)}",
                "x": np.round(grid, 6).tolist(),
                "y": np.round(density, 5).tolist(),
                "line": {"color": ramp_color(position, len(weights)), "width": 2},
                "hovertemplate": f"{percent(stage.density)} left, value %{{x:.3f}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "initial value"}},
        "yaxis": {"title": {"text": "density estimate"}, "rangemode": "tozero"},
    }
    alt = f"Distribution of the initial values of surviving weights of {layer}, by share left."
    caption = "Values at step 0 of the weights that are still there, smoothed."
    title = f"Initial weights of {layer}"
    return Plot(
        f"weights-{layer}", title, alt, caption, traces, layout, 300, num_legend=len(traces)
    )


def weight_grid(values: Sequence[np.ndarray], num: int = 201) -> np.ndarray:
    """Return an even grid a little wider than all values."""
    reach = 1.15 * max(float(np.abs(v).max()) for v in values) or 1.0
    return np.linspace(-reach, reach, num)
