"""What `wiry evaluate` prints: how far it is, the verdict, and what makes it doubtful.

Progress and remarks go to standard error.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from wiry.console import interval, percent, terminal
from wiry.evaluation.progress import Status
from wiry.sweep.evaluate_command import Outcome

_PAUSE = 10.0  # seconds between two lines where there is no terminal


class Watch:
    """Shows how far an evaluation is: one line that changes on a terminal, else a line at times.

    Args:
        quiet: show nothing.
        clock: tells seconds.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._quiet = terminal(stderr=True), quiet
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._clock, self._last = clock, clock()

    def __enter__(self) -> "Watch":
        """Begin."""
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave no line behind on a terminal."""
        if self._live.is_started:
            self._live.stop()

    def __call__(self, status: Status) -> None:
        """Show a status."""
        if self._live.is_started:
            self._live.update(Text(status_line(status), no_wrap=True), refresh=True)
        elif not self._quiet and self._clock() - self._last >= _PAUSE:
            self._last = self._clock()
            print(status_line(status), file=sys.stderr, flush=True)


def status_line(status: Status) -> str:
    """Say what runs, how many images are left for it, how many stand, and the time left."""
    parts = [brief_attack(status.attack)]
    if status.num_todo:
        parts.append(f"{status.num_todo - status.num_done:,} of {status.num_todo:,} images left")
    share = status.num_right / status.num_images if status.num_images else 0.0
    word = "clean" if status.attack == "clean" else "robust so far"
    parts.append(f"{word} {percent(share)}")
    if status.seconds_left is not None:
        parts.append(f"about {duration(status.seconds_left)} left")
    return " | ".join(parts)


def brief_attack(attack: str) -> str:
    """Return the repr of an attack with the fields that tell it from others."""
    name, bracket, fields = attack.partition("(")
    kept = [
        part.split("=")[1].strip("'")
        for part in fields.rstrip(")").split(", ")
        if part.partition("=")[0] in ("loss", "target", "num_queries")
    ]
    return f"{name} ({', '.join(kept)})" if bracket and kept else name


def duration(seconds: float) -> str:
    """Write a time with its unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def verdict_table(name: str, record: Mapping[str, Any]) -> Table:
    """Return a table of a network's accuracies, attack by attack."""
    title = f"{name}: {record['num_samples']:,} {record['split']} images{_budget(record)}"
    table = Table(title=f"{title}, seed {record['seed']}", title_justify="left")
    for column in ("under", "put to", "fooled", "accuracy", "95 % interval", "time"):
        table.add_column(column, justify="left" if column == "under" else "right")
    clean = percent(record["clean_accuracy"]), interval(record["clean_interval"])
    table.add_row("no attack", f"{record['num_samples']:,}", "", *clean, "")
    for row in record["attacks"]:
        table.add_row(
            brief_attack(row["attack"]),
            _count(row.get("num_attacked")),
            _count(row.get("num_fooled")),
            percent(row["accuracy"]),
            interval(row["interval"]),
            duration(row["seconds"]) if row.get("seconds") is not None else "",
        )
    if record["robust_accuracy"] is not None:
        robust = percent(record["robust_accuracy"]), interval(record["robust_interval"])
        table.add_section()
        what = record.get("protocol") or "robust (worst case)"
        table.add_row(what, "", "", *robust, "", style="bold")
    return table


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _budget(record: Mapping[str, Any]) -> str:
    if record["norm"] is None:
        return ""
    eps = f" eps {record['eps']:.4g}" if record["eps"] is not None else ""
    return f", {record['norm']}{eps}"


def verdict_lines(record: Mapping[str, Any]) -> list[str]:
    """Return what stands under the table: size, findings, screening, measures."""
    cost = record["cost"]
    lines = [
        f"{cost['nonzeros']:,} of {cost['prunable']:,} prunable weights are not zero "
        f"(sparsity {percent(cost['sparsity'])})."
    ]
    if (screened := record.get("screened")) is not None:
        lines.append(
            f"Screened, not AutoAttack: {screened['num_audited']} images audited, "
            f"{screened['num_flips']} fell; AutoAttack may be lower by up to "
            f"{100 * screened['accuracy_bound']:.1f} points (95 %)."
        )
    if (proven := record.get("certified")) is not None:
        lines.append(f"{proven['num']:,} images were not attacked: bounds prove them robust.")
    for row in record.get("measures", ()):
        values = ", ".join(f"{key} {_shown(value)}" for key, value in row["values"].items())
        lines.append(f"{row['measure']}: {values}. {row['remark']}")
    lines += [f"{f['severity']}: {f['message']}" for f in record.get("findings", ())]
    return lines


def against_lines(against: Mapping[str, Any]) -> list[str]:
    """Return what a comparison of two networks found."""
    dense, sparse = against["dense"], against["sparse"]
    lines = []
    for kind in ("clean", "robust"):
        if (found := against["flips"][kind]) is None:
            continue
        low, high = found["interval"]
        lines.append(
            f"{kind}: {sparse} loses {found['num_lost']:,} images that {dense} has right and gains "
            f"{found['num_gained']:,}: {100 * found['difference']:+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}, p {found['p_value']:.2g})."
        )
    matrix = against["transfer"]
    for row, column in ((0, 1), (1, 0)):
        kept = matrix["kept"][row][column]
        lines.append(
            f"transfer: of images made for {matrix['names'][row]}, {matrix['names'][column]} still "
            f"has {percent(kept)} right ({matrix['num_both'][row][column]:,} that both have right "
            "when clean)."
        )
    return lines


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def remark_lines(outcome: Outcome) -> list[str]:
    """Return what the user should know besides the verdict: how it was opened, what is missing."""
    lines = [f"note: {remark}" for remark in outcome.remarks]
    if outcome.card is not None:
        lines += [f"card: {text}" for text in outcome.card.departures]
        for key, what in outcome.card.missing.items():
            lines.append(f"card: {key} is missing ({what}); add --card {key}=...")
    return lines


def shell_json(outcome: Outcome, files: Mapping[str, Path | None]) -> dict[str, Any]:
    """Return the record for scripts, with the paths of what was written under `files`."""
    places = {name: str(place) for name, place in files.items() if place is not None}
    more = {"against": outcome.against} if outcome.against is not None else {}
    return {**outcome.record, **more, "files": places}


def show(outcome: Outcome, files: Mapping[str, Path | None]) -> None:
    """Print the verdict, what makes it doubtful, and where the files are."""
    out = terminal()
    out.print(verdict_table(outcome.network.name, outcome.record))
    more = against_lines(outcome.against) if outcome.against is not None else []
    for line in [*verdict_lines(outcome.record), *more]:
        out.print(line, markup=False)
    for name, place in files.items():
        if place is not None:
            out.print(f"{name.capitalize() + ':':8}{place}", soft_wrap=True, markup=False)
