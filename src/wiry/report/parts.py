"""The parts that the sections of a page are made of, as data for the template."""

import json
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from wiry.report.images import Card
from wiry.report.plots import Plot


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, a smaller line below it, and the kind of badge it is, if one."""

    text: str
    small: str = ""
    badge: str = ""


@dataclass(frozen=True)
class TableLine:
    """A row of a table; the kind (`chosen`, `baseline`) sets it off."""

    cells: list[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; `numeric` are flush right, `narrow` is no wider than needed."""

    caption: str
    header: list[str]
    rows: list[TableLine]
    numeric: frozenset[int] = frozenset()
    narrow: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    `lead` is a paragraph under the heading, `text` one above the cards; `details` are tables with
    the line that unfolds each.
    """

    id: str
    title: str
    table: Table | None = None
    lead: str = ""
    table_first: bool = True
    summary: str = "The numbers as a table"
    details: list[tuple[str, Table]] = field(default_factory=list)
    plots: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    cards: list[Card] = field(default_factory=list)
    pre: str = ""
    notes: list[str] = field(default_factory=list)


def chart(plot: Plot, position: int = 0) -> dict[str, Any]:
    """Return a plot for the template, its description as JSON that is safe in a script element."""
    spec = {
        "data": plot.data,
        "layout": plot.layout,
        "height": plot.height,
        "legend": plot.num_legend,
    }
    key = plot.key if plot.key.replace("-", "").replace("_", "").isalnum() else f"plot-{position}"
    words = {"title": plot.title, "alt": plot.alt, "caption": plot.caption}
    return {"id": f"chart-{key}", "spec": script_json(spec)} | words


def script_json(data: Any) -> Markup:
    """Write JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)
