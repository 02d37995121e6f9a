"""How numbers read in a report: percentages with one decimal, thousands separators, units."""

import math
import statistics
from collections.abc import Sequence

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
MISSING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
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


def _digits(share: float) -> str:
    value = 100 * share
    if 0 < value < 0.1:
        return f"{value:.{1 - math.floor(math.log10(value))}f}"
    return f"{value:.1f}"
