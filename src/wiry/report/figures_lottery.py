"""Figures for print that belong to lottery tickets: early stopping, and the weights that survive.

Those of Cosentino et al. 2019 (arXiv 1912.02386): 3, 5, 9 and 11, and 13-15. `figures` writes them
to files.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from wiry.report.curves import WEIGHT_DENSITIES, weight_grid
from wiry.report.looks import COLORS, MARKERS, band, density_axis, label, title
from wiry.report.records import RunData
from wiry.report.series import Group, choose_levels, early_stop, initial_weights, kernel_density


def early_stop_figure(groups: list[Group]) -> Figure | None:
    """Draw the step of least validation loss and the validation accuracies there, by density."""
    keys = (
        ("step", "early-stopping step", 1),
        ("validation_accuracy", "validation accuracy (%)", 100),
        ("validation_robust_accuracy", "robust validation accuracy (%)", 100),
    )
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.subplots(1, len(keys))
    drawn = False
    for axis, (key, name, factor) in zip(axes, keys, strict=True):
        for position, group in enumerate(groups):
            points = _early_points(group, key)
            if points:
                curve = tuple(np.array(column) for column in zip(*points, strict=True))
                color = COLORS[position % len(COLORS)]
                marker = MARKERS[position % len(MARKERS)]
                band(
                    axis,
                    curve,
                    factor,
                    color=color,
                    marker=marker,
                    markersize=3,
                    label=label(group.label),
                )
                drawn = drawn or len(points) > 1
        density_axis(axis)
        axis.set_ylabel(name)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    return figure if drawn else None


def _early_points(group: Group, key: str) -> list[tuple[float, float, float]]:
    """Return density in percent, mean and deviation over seeds, level by level."""
    points = []
    for name in group.levels:
        stages = group.stages(name)
        rows = [row for stage in stages if (row := early_stop(stage)) and row.get(key) is not None]
        if rows:
            values = np.array([row[key] for row in rows], dtype=float)
            density = float(np.mean([s.density for s in stages if s.density]))
            spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            points.append((100 * density, float(values.mean()), spread))
    return points


def weight_figure(run: RunData, most_layers: int = 6) -> Figure | None:
    """Draw the distribution of the initial values of surviving weights, a panel per layer."""
    positions = choose_levels([s.density for s in run.stages], WEIGHT_DENSITIES)
    stages = [run.stages[position] for position in positions]
    found = [(s, values) for s in stages if (values := initial_weights(s))]
    if len(found) < 2:
        return None
    layers = [name for name, values in found[0][1].items() if values.size > 1][:most_layers]
    if not layers:
        return None
    figure = Figure(figsize=(2.8 * len(layers) + 1.1, 2.6), layout="constrained")
    axes = figure.subplots(1, len(layers), squeeze=False)[0]
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(found)))
    for axis, layer in zip(axes, layers, strict=True):
        grid = weight_grid([values[layer] for _, values in found if layer in values])
        for (stage, values), color in zip(found, colors, strict=True):
            if layer in values:
                name = f"{100 * (stage.density or 0):.1f} %"
                axis.plot(grid, kernel_density(values[layer], grid), color=color, label=name)
        axis.set_xlabel("initial value")
        axis.set_title(title(layer, inches=2.8))
    axes[0].set_ylabel("density estimate")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", title="weights left")
    return figure
