"""What the command line prints and how it reads small values.

The commands themselves are in `cli`.
"""

import re
from typing import Any

from rich.console import Console
from rich.table import Table

from wiry.core.errors import UserError
from wiry.core.types import parse_fractions

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def terminal(*, stderr: bool = False) -> Console:
    """Return what tables and lines are printed with; standard error while JSON is printed."""
    return Console(stderr=stderr, highlight=False)


def parse_number(text: str | None, option: str) -> float | None:
    """Read `0.15` or `8/255`; None stays None.

    Raises:
        UserError: for anything else.
    """
    try:
        return None if text is None else float(parse_fractions(text))
    except ValueError as error:
        raise UserError(f"{option} {text!r} is not a number; write 0.15 or 8/255") from error


def parse_duration(text: str) -> float:
    """Read `90s`, `10m` or `2h` (a bare number is seconds) as seconds.

    Raises:
        UserError: for anything else.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match or not 0 < float(match[1]) < 1e9:
        raise UserError(f"--budget {text!r} is not a duration; write 90s (or 90), 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """Read `0,1,2` as whole numbers.

    Raises:
        UserError: for anything else.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"{option} {text!r}: write whole numbers with commas, such as 0,1,2"
        ) from error
    if any(number < 0 or number >= 2**32 for number in numbers):
        raise UserError(f"{option} {text!r}: each number must be in [0, 2^32)")
    return numbers


def percent(value: float | None) -> str:
    """Write a share as a percentage with one decimal, `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def interval(value: list[float] | None) -> str:
    """Write an interval of shares in percent."""
    return "-" if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f}"


def brief(attack: str | None) -> str:
    """Return an attack's description without its parameters, which the JSON and the page have."""
    return attack.partition(":")[0] if attack else "-"


def search_table(outcome: dict[str, Any]) -> Table:
    """Return the closing table of a search."""
    table = Table(
        title=f"Test split; constraint: {outcome['thresholds_text']}", title_justify="left"
    )
    for name, justify in (
        ("method", "left"),
        ("density", "right"),
        ("non-zeros", "right"),
        ("clean", "right"),
        ("robust", "right"),
        ("95 % interval", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type] # literals
    for row in [outcome["dense"], *outcome["candidates"]]:
        style = "bold green" if row["verdict"] == "winner" else None
        table.add_row(
            row["method"],
            percent(row["density"]),
            f"{row['nonzeros']:,}",
            percent(row["clean_accuracy"]),
            percent(row["robust_accuracy"]),
            interval(row["robust_interval"]),
            row["verdict"],
            style=style,
        )
    return table


def verdict_lines(outcome: dict[str, Any]) -> list[str]:
    """Return the sentences under the table: the winner, or what came nearest."""
    dense = outcome["dense"]
    if (winner := outcome["winner"]) is not None:
        return [
            f"Winner: {winner['method']}, {winner['nonzeros']:,} weights "
            f"({percent(winner['density'])} of the dense network's).",
            f"Clean {percent(winner['clean_accuracy'])} (dense "
            f"{percent(dense['clean_accuracy'])}), robust {percent(winner['robust_accuracy'])} "
            f"(dense {percent(dense['robust_accuracy'])}), {brief(winner['attack'])}.",
        ]
    lines = ["No candidate meets the constraint."]
    if (nearest := outcome["nearest"]) is not None:
        lines.append(
            f"Nearest: {nearest['method']} at density {percent(nearest['density'])}: "
            f"{nearest['reason']}."
        )
    if outcome["stopped"]:
        lines.append("The time budget cut the search short; a larger --budget continues it.")
    return lines


def evaluation_table(results: list[tuple[str, dict[str, Any]]]) -> Table:
    """Return a table of evaluated stages."""
    table = Table(title=f"seed {results[0][1]['seed']}", title_justify="left")
    for name in ("stage", "density", "non-zeros", "clean", "robust", "95 % interval", "attack"):
        table.add_column(name, justify="left" if name in ("stage", "attack") else "right")
    for stage, result in results:
        cost = result["cost"]
        table.add_row(
            stage,
            percent(cost["mask_density"]),
            f"{cost['nonzeros']:,}",
            percent(result["clean_accuracy"]),
            percent(result["robust_accuracy"]),
            interval(result["robust_interval"]),
            brief(result["attack"]),
        )
    return table
