"""Figures for print, PDF and SVG: accuracy by density and those of Cosentino et al. 2019.

The paper is arXiv 1912.02386. Runs of one recipe are its seeds (line: mean, band: sample standard
deviation); different recipes are different strategies. The
first recipe named is the one that others are compared with.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wiry.core.errors import UserError
from wiry.report.figures_lottery import early_stop_figure, weight_figure
from wiry.report.looks import COLORS, MARKERS, band, density_axis, label, title
from wiry.report.records import RunData, SearchData
from wiry.report.series import (
    Group,
    Measurement,
    choose_levels,
    group_runs,
    mean_curve,
    measurements,
    metric_key,
)
from wiry.report.sources import collect_all

_STYLES = ("-", "--", ":", "-.")
_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e7eaee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "wiry",
    "text.parse_math": False,  # names come from files
}


def write_figures(roots: Sequence[Path], folder: Path) -> list[Path]:
    """Write every figure the directories have numbers for, each as PDF and as SVG.

    Raises:
        UserError: if there is nothing to draw.
    """
    sources = collect_all(roots)
    groups = group_runs(s for s in sources if isinstance(s, RunData))
    with matplotlib.rc_context(_RC):
        figures = _figures(groups, sources)
        if not figures:
            names = ", ".join(repr(str(root)) for root in roots)
            raise UserError(f"nothing to draw: {names} hold no metrics and no evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in figures.items():
            for ending, date in (("pdf", "CreationDate"), ("svg", "Date")):
                paths.append(folder / f"{name}.{ending}")
                figure.savefig(paths[-1], metadata={date: None})  # no date: same run, same file
    return paths


def _figures(groups: list[Group], sources: list[RunData | SearchData]) -> dict[str, Figure]:
    figures = {}
    for name, what, factor in (
        ("accuracy", "accuracy (%)", 100),
        ("robust_accuracy", "robust accuracy (%)", 100),
        ("loss", "loss", 1),
    ):
        figures[f"steps-{name.replace('_', '-')}"] = step_figure(groups, name, what, factor)
    figures["density"] = density_figure(measurements(sources))
    figures["early-stop"] = early_stop_figure(groups)
    for group in groups:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", group.label)
        figures[f"initial-weights-{name}"] = weight_figure(group.runs[0])
    return {name: figure for name, figure in figures.items() if figure}


def step_figure(groups: list[Group], name: str, what: str, factor: float) -> Figure | None:
    """Draw a metric against the step, colour by density; then the first recipe with each other."""
    stages = [stage for group in groups for run in group.runs for stage in run.stages]
    key = metric_key(stages, name)
    if key is None:
        return None
    panels = [[groups[0]], *([groups[0], other] for other in groups[1:])]
    figure = Figure(figsize=(3.6 * len(panels) + 1.1, 2.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    shown = _shown_levels(groups[0])
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(shown)))
    for axis, members in zip(axes, panels, strict=True):
        for group, style in zip(members, _STYLES, strict=False):
            for (level, _), color in zip(shown, colors, strict=True):
                drawn = mean_curve(group.stages(level), key)
                if drawn:
                    band(axis, drawn, factor, color=color, linestyle=style)
        axis.set_xlabel("training step")
        axis.set_title(title(" and ".join(g.label for g in members), inches=3.6))
    axes[0].set_ylabel(f"{key.partition('_')[0]} {what}")
    names = [f"{100 * density:.1f} %" for _, density in shown]
    handles = [Line2D([], [], color=c, label=n) for c, n in zip(colors, names, strict=True)]
    if len(groups) > 1:
        handles += [
            Line2D([], [], color="black", linestyle=style, label=label(name))
            for style, name in zip(("-", "--"), (groups[0].label, "the other"), strict=True)
        ]
    figure.legend(handles=handles, loc="outside right center", title="weights left")
    return figure


def _shown_levels(group: Group) -> list[tuple[str, float]]:
    levels = [
        (name, float(np.mean([s.density for s in group.stages(name) if s.density])))
        for name in group.levels
    ]
    return [levels[position] for position in choose_levels([d for _, d in levels])]


def density_figure(found: Sequence[Measurement]) -> Figure | None:
    """Draw clean and robust accuracy against density, one colour per recipe or method."""
    if not found:
        return None
    panels = [kind for kind in ("clean", "robust") if any(getattr(m, kind) for m in found)]
    figure = Figure(figsize=(3.4 * len(panels) + 1.4, 2.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    labels = list(dict.fromkeys(m.group for m in found))
    for axis, kind in zip(axes, panels, strict=True):
        for position, group in enumerate(labels):
            mine = [m for m in found if m.group == group and getattr(m, kind)]
            mine.sort(key=lambda m: -m.density)
            values = [100 * np.array(getattr(m, kind)) for m in mine]
            axis.errorbar(
                [100 * m.density for m in mine],
                [v.mean() for v in values],
                yerr=[v.std(ddof=1) if v.size > 1 else 0 for v in values],
                color=COLORS[position % len(COLORS)],
                marker=MARKERS[position % len(MARKERS)],
                markersize=4,
                capsize=2,
                label=label(group),
            )
        density_axis(axis)
        axis.set_ylabel(f"{kind} accuracy (%)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    return figure
