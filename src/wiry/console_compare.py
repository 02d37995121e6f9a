"""What `wiry compare` prints and how it reads lists of shares."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from wiry.console import percent
from wiry.core.errors import UserError

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def parse_shares(text: str, option: str) -> tuple[float, ...]:
    """Read `0.9,0.95` as numbers; whether they are shares is checked where they are used.

    Raises:
        UserError: for what is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"{option} {text!r}: write shares with commas, such as 0.9,0.95,0.99"
        ) from error


def spread(mean: float | None, deviation: float | None) -> str:
    """Write mean and deviation of shares in percent: `51.2 +- 0.4`."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" +- {100 * deviation:.1f}")


def in_unit(values: Sequence[float | None]) -> tuple[list[str], str]:
    """Write numbers of operations in one unit, that of the largest: (["12", "3.4"], "G")."""
    largest = max((value for value in values if value), default=0.0)
    power = 0
    while largest >= 1000 ** (power + 1) and power < len(_PREFIXES) - 1:
        power += 1
    texts = ["-" if value is None else f"{value / 1000**power:.3g}" for value in values]
    return texts, _PREFIXES[power]


def tables(outcome: dict[str, Any]) -> list[Table]:
    """Return the closing tables: robust and clean accuracy, then what each method costs."""
    return [
        _accuracies(outcome, "robust", f"Robust accuracy, %, {_count(outcome)}"),
        _accuracies(outcome, "clean", f"Clean accuracy, %, {_count(outcome)}"),
        _costs(outcome),
    ]


def closing_lines(outcome: dict[str, Any]) -> list[str]:
    """Return the sentences under the tables: who wins where, and what could not be compared."""
    lines = []
    for column in outcome["columns"]:
        where = f"At {percent(column['sparsity'])} sparsity"
        if column["winner"] is None:
            lines.append(f"{where} no method can be ranked.")
            continue
        line = f"{where}: {column['winner']}, robust {percent(column['robust_accuracy'])}"
        if column["second"] is not None:
            low, high = column["interval"]
            sure = "apart from" if column["apart"] else "not apart from"
            line += (
                f", {sure} {column['second']} ({100 * column['difference']:+.1f} points, "
                f"95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
            )
        lines.append(f"{line}; {len(column['tied'])} of the others tie with it.")
    lines += [_finalist(row) for row in outcome.get("finalists", [])]
    found: dict[tuple[str, str], list[str]] = {}
    for cell in outcome["cells"]:
        for reason in cell["reasons"]:
            found.setdefault((cell["method"], reason), []).append(percent(cell["sparsity"]))
    return lines + [f"{m} at {', '.join(where)}: {reason}" for (m, reason), where in found.items()]


def _finalist(row: dict[str, Any]) -> str:
    low, high = row["robust_interval"]
    where = f" at {percent(row['sparsity'])} sparsity" if row["sparsity"] else ""
    return (
        f"{row['protocol']}: {row['method']}{where}, robust {percent(row['robust_accuracy'])} "
        f"({100 * low:.1f} to {100 * high:.1f}; screened {percent(row['screened_accuracy'])})."
    )


def _count(outcome: dict[str, Any]) -> str:
    return f"test split, mean +- deviation over {len(outcome['seeds'])} seeds"


def _cells(outcome: dict[str, Any]) -> dict[tuple[str, float], dict[str, Any]]:
    return {(cell["method"], cell["sparsity"]): cell for cell in outcome["cells"]}


def _by_rank(outcome: dict[str, Any]) -> list[str]:
    ranks = outcome["mean_ranks"]
    return sorted(outcome["methods"], key=lambda m: ranks.get(m, float("inf")))


def _table(title: str, names: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for position, name in enumerate(names):
        table.add_column(name, justify="right" if position else "left", no_wrap=not position)
    return table


def _accuracies(outcome: dict[str, Any], what: str, title: str) -> Table:
    cells, sparsities = _cells(outcome), outcome["sparsities"]
    winners = {column["sparsity"]: column["winner"] for column in outcome["columns"]}
    table = _table(title, ["method", "mean rank", *(percent(s) for s in sparsities)])
    dense = cells.get(("dense", 0.0), {})
    shown = spread(dense.get(f"{what}_accuracy"), dense.get(f"{what}_deviation"))
    table.add_row("dense", "-", *[shown] * len(sparsities), style="dim")
    for method in _by_rank(outcome):
        texts = []
        for sparsity in sparsities:
            cell = cells.get((method, sparsity), {})
            text = spread(cell.get(f"{what}_accuracy"), cell.get(f"{what}_deviation"))
            text += "" if cell.get("ranked") or text == "-" else " *"
            best = what == "robust" and winners[sparsity] == method
            texts.append(f"[bold green]{text}[/]" if best else text)
        rank = outcome["mean_ranks"].get(method)
        table.add_row(method, "-" if rank is None else f"{rank:.1f}", *texts)
    if any(not cell["ranked"] for cell in outcome["cells"] if cell["method"] != "dense"):
        table.caption = "* not ranked, see below"
    return table


def _costs(outcome: dict[str, Any]) -> Table:
    cells, sparsities = _cells(outcome), outcome["sparsities"]
    methods = ["dense", *_by_rank(outcome)]
    keys = {m: [(m, s) for s in (sparsities if m != "dense" else [0.0])] for m in methods}
    found = {m: [cells.get(key, {}) for key in keys[m]] for m in methods}
    columns, units = [], []
    for name in ("flops_dense", "flops_sparse"):
        texts, unit = in_unit([cell.get(name) for m in methods for cell in found[m]])
        columns.append(iter(texts))
        units.append(unit)
    names = [
        "weights left, %",
        f"dense {units[0]}FLOP",
        f"ideally sparse {units[1]}FLOP",
        "seconds",
    ]
    head = " / ".join(percent(s) for s in sparsities)
    table = _table(f"Real density and cost of training at {head}", ["method", *names])
    for method in methods:
        mine = found[method]
        table.add_row(
            method,
            " / ".join(percent(cell.get("density")).removesuffix(" %") for cell in mine),
            *(" / ".join(next(column) for _ in mine) for column in columns),
            " / ".join("-" if "seconds" not in c else f"{c['seconds']:.1f}" for c in mine),
        )
    return table
