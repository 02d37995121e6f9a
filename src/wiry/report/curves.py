"""Interactive plots of training: curves, early stopping by density, and surviving initial weights.

The form is that of `plots`. The last two are figures of Cosentino et al. 2019 (arXiv 1912.02386):
3, 5, 9 and 11 (early stopping) and 13-15 (initial weights).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wiry.report.plots import Plot, density_axis, label, ramp_color, series_color
from wiry.report.records import RunData, StageData
from wiry.report.series import (
    choose_levels,
    curve,
    early_stop,
    initial_weights,
    kernel_density,
    metric_key,
)
from wiry.report.words import percent

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
    traces = []
    for position, (text, stage) in enumerate(stages):
        many = len(stages) > 4
        color = ramp_color(position, len(stages)) if many else series_color(position)
        ways = [(key, "solid", 1.0), (f"train_{name}", "dot", 0.55)]
        for metric, dash, opacity in ways:
            if metric is None or (metric == f"train_{name}" and many):
                continue
            steps, values = curve(stage, metric)
            if not steps:
                continue
            split = metric.partition("_")[0]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines" if len(steps) > 1 else "markers",
                    "name": label(text),
                    "legendgroup": f"stage-{position}",
                    "showlegend": dash == "solid" or key is None,
                    "x": steps,
                    "y": [factor * value for value in values],
                    "line": {"color": color, "width": 2, "dash": dash},
                    "marker": {"color": color},
                    "opacity": opacity,
                    "hovertemplate": f"{label(text)}, {split}, step %{{x:,}}: %{{y:.4g}}"
                    "<extra></extra>",
                }
            )
    if not traces:
        return None
    split = "training" if key is None else key.partition("_")[0]
    dotted = " Dotted: training images." if any(t["line"]["dash"] == "dot" for t in traces) else ""
    caption = f"On {split} images.{dotted}"
    names = ", ".join(text for text, _ in stages)
    layout = {
        "xaxis": {"title": {"text": "training step"}, "tickformat": ","},
        "yaxis": {"title": {"text": axis}},
    }
    legend = sum(bool(t["showlegend"]) for t in traces)
    return Plot(
        f"curve-{name}",
        title,
        f"{title} of {names}.",
        caption,
        traces,
        layout,
        num_legend=legend,
    )


def early_stop_plots(run: RunData) -> list[Plot]:
    """Draw the early-stopping step and the validation accuracies there against density."""
    found = [(stage, row) for stage in run.stages if stage.density and (row := early_stop(stage))]
    if len(found) < 4:
        return []
    densities = [stage.density or 1 for stage, _ in found]
    text = "Where the validation loss was least; training itself ran to its end."
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
    weights = [(stage, initial_weights(run, stage)) for stage in stages]
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
                "name": f"{percent(stage.density)} left",
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
