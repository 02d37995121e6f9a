"""How numbers read in a report: percentages with one decimal, thousands separators, units."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_MOST_ITEMS = 12
_NORMS = {"linf": "L\N{INFINITY}", "inf": "L\N{INFINITY}", "l2": "L2", "l1": "L1", "l0": "L0"}


def percent(share: float | None) -> str:
    """Write a share in [0, 1]: `6.3 %`; below 0.1 % with two digits that count."""
    return MISSING if share is None else f"{_digits(share)}{SPACE}%"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """Write an interval of shares: `50.3-52.3 %`."""
    if interval is None:
        return MISSING
    return f"{_digits(interval[0])}{DASH}{_digits(interval[1])}{SPACE}%"


def percent_spread(shares: Sequence[float]) -> str:
    """Write mean and sample standard deviation of shares: `51.2 +- 0.4 %`; of one, the share."""
    if not shares:
        return MISSING
    mean = 100 * statistics.fmean(shares)
    if len(shares) == 1:
        return f"{mean:.1f}{SPACE}%"
    return f"{mean:.1f} {PLUS_MINUS} {100 * statistics.stdev(shares):.1f}{SPACE}%"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, without its sign."""
    return f"{abs(100 * difference):.1f} points"


def signed_points(difference: float) -> str:
    """Write a difference of shares in percentage points with its sign, without the unit."""
    return f"{100 * difference:+.1f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Write a count with thousands separators."""
    return MISSING if value is None else f"{round(value):,}"


def quantity(value: float | None, unit: str) -> str:
    """Write a number with a decimal prefix: `1.2 MFLOP`, `48.2 kB`."""
    if value is None:
        return MISSING
    power = min(4, int(math.log10(value) // 3)) if value >= 1000 else 0
    if power == 0:
        return f"{value:,.0f}{SPACE}{unit}"
    return f"{value / 1000**power:,.1f}{SPACE}{'kMGT'[power - 1]}{unit}"


def duration(seconds: float | None) -> str:
    """Write a duration: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s" if seconds < 10 else f"{seconds:.0f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def eps_text(eps: float | None) -> str:
    """Write a pixel budget the way it is set: `8/255` or `0.3`."""
    if eps is None:
        return MISSING
    levels = eps * 255
    if (
        abs(eps - round(eps, 2)) > 1e-9
        and 0.5 < levels < 255
        and abs(levels - round(levels)) < 1e-3
    ):
        return f"{round(levels)}/255"
    return f"{eps:.4g}"


def norm_text(norm: str | None) -> str:
    """Write a norm: `linf` as L with the infinity sign."""
    return MISSING if norm is None else _NORMS.get(norm.lower(), norm)


def plain(value: Any) -> str:
    """Write a value of JSON so that it can be read: four digits, lists with commas."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(item) for item in value[:_MOST_ITEMS])
        more = len(value) - _MOST_ITEMS
        return (f"{shown}, and {more} more" if more > 0 else shown) or MISSING
    return str(value)


def titled(name: str) -> str:
    """Write the name of something as a heading: `security-curve` as `Security curve`."""
    text = " ".join(name.replace("_", " ").replace("-", " ").split())
    if text.startswith("num "):
        text = f"number of {text[4:]}"
    return text[:1].upper() + text[1:]


def _digits(share: float) -> str:
    value = 100 * share
    if 0 < value < 0.1:
        return f"{value:.{1 - math.floor(math.log10(value))}f}"
    return f"{value:.1f}"
