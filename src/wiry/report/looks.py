"""What the figures for print have in common: colours, bands, the axis of densities, long names."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from wiry.report.plots import DENSITY_TICKS

COLORS = ("#2268b8", "#d1540f", "#128060", "#8a4fc4", "#b38600", "#c2356b", "#4c6272", "#6b7c12")
MARKERS = "osD^vPX*"
_LETTERS_AN_INCH = 9  # of a title, with room to spare for the legend beside the panels
_LEGEND_LETTERS = 26


def title(text: str, *, inches: float) -> str:
    """Break a panel's title into lines that fit a panel of a width."""
    return textwrap.fill(text, int(_LETTERS_AN_INCH * inches))


def label(text: str) -> str:
    """Break a name in a legend into lines, so that the panels keep their width."""
    return textwrap.fill(text, _LEGEND_LETTERS)


def band(axis: Axes, curve: Sequence[np.ndarray], factor: float, **look: object) -> None:
    """Draw a mean with its deviation as a band; a single point gets a marker to be seen."""
    x, mean, deviation = curve
    if len(x) == 1:
        look = {"marker": MARKERS[0], "markersize": 3} | look
    (line,) = axis.plot(x, factor * mean, **look)  # pyright: ignore[reportArgumentType]  # a bag of looks
    if deviation.any():
        low, high = factor * (mean - deviation), factor * (mean + deviation)
        axis.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def density_axis(axis: Axes) -> None:
    """Make the horizontal axis the share of weights left in percent, sparser to the right."""
    axis.set_xscale("log")
    low, high = sorted(axis.get_xlim())
    axis.invert_xaxis()
    axis.set_xlabel("weights left (%)")
    axis.set_xticks([t for t in DENSITY_TICKS if low * 0.99 <= t <= high * 1.01])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_locator(NullLocator())
