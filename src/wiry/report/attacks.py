"""What each attack takes: the way from clean to robust accuracy, and the seconds it cost."""

import re
from typing import Any

from wiry.report.doubts import provisos
from wiry.report.evaluations import Evaluation
from wiry.report.parts import Cell, Section, Table, TableLine, chart
from wiry.report.plots import CATEGORIES, Plot, label
from wiry.report.reading import interval, number
from wiry.report.words import MINUS, MISSING, SPACE, count, duration, percent, percent_interval

_ATTACK = re.compile(r"([\w-]+)\((.*)\)\Z", re.DOTALL)
_LOSS = re.compile(r"\bloss='([^']*)'")
_LONGEST = 32


def attack_section(evaluation: Evaluation) -> Section | None:
    """Return the section on the attacks; nothing if there was none."""
    rows = evaluation.attacks
    if not rows:
        return None
    names = short_names(rows)
    plot = waterfall(evaluation, names)
    return Section(
        "attacks",
        "What each attack takes",
        _table(evaluation, names),
        table_first=plot is None,
        summary="The attacks as a table",
        plots=[chart(plot)] if plot else [],
        notes=provisos(evaluation),
    )


def short_names(rows: list[dict[str, Any]]) -> list[str]:
    """Return a name for each attack that is short, and no other's.

    A repr such as `APGD(eps=0.1, loss='ce')` becomes `APGD ce`.
    """
    found: list[str] = []
    for row in rows:
        name = _short(str(row.get("attack", "?")))
        same = sum(other == name or other.startswith(f"{name} (") for other in found)
        found.append(f"{name} ({same + 1})" if same else name)
    return found


def _short(text: str) -> str:
    match = _ATTACK.match(text)
    if match is None:
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    name, fields = match.groups()
    loss = _LOSS.search(fields)
    if loss:
        name += f" {loss.group(1)}"
    elif "targeted=True" in fields:
        name += " targeted"
    return name[:_LONGEST]


def waterfall(evaluation: Evaluation, names: list[str]) -> Plot | None:
    """Draw what is right when clean, what each attack takes of it in turn, and what is left.

    Where attacks were not run in turn, each one's accuracy is drawn.
    """
    robust = evaluation.robust_accuracy
    left = [number(row.get("accuracy")) for row in evaluation.attacks]
    if robust is None or any(share is None for share in left):
        return None
    shares = [share for share in left if share is not None]
    in_turn = evaluation.cascade or all(row.get("cumulative") is True for row in evaluation.attacks)
    before = [evaluation.clean_accuracy, *shares[:-1]] if in_turn else []
    if any(share > start + 1e-9 for start, share in zip(before, shares, strict=False)):
        return None  # what an attack leaves is never more than there was: not a record of ours
    num = evaluation.num_samples
    if in_turn:
        middle = [
            _bar(name, share, start, _taken(start - share, num), "@faint")
            for name, start, share in zip(names, before, shares, strict=True)
        ]
        caption = (
            "Each attack meets only the images that the earlier ones left; grey is what it takes."
        )
    else:
        middle = [
            _bar(name, 0, share, percent(share), "@faint")
            for name, share in zip(names, shares, strict=True)
        ]
        caption = "Each attack met every image; robust is what is right under all of them."
    clean = evaluation.clean_accuracy
    bars = [
        _bar("right when clean", 0, clean, _share(clean, num), "@series-0"),
        *middle,
        _bar("robust", 0, robust, _share(robust, num), "@series-1"),
    ]
    layout = {
        "xaxis": {
            "title": {"text": "images (%)"},
            "range": [0, 145],
            "tickvals": [0, 20, 40, 60, 80, 100],
        },
        "yaxis": CATEGORIES,
        "bargap": 0.3,
        "hovermode": "closest",
    }
    parts = "; ".join(f"{bar['name']}: {bar['text'][0]}" for bar in bars)
    height = 110 + 34 * len(bars)
    return Plot("attacks", "What each attack takes", f"{parts}.", caption, bars, layout, height)


def _taken(share: float, num: int) -> str:
    return f"{MINUS}{_share(share, num)}" if round(share * num) else "nothing"


def _share(share: float, num: int) -> str:
    return f"{percent(share)} ({count(round(share * num))})"


def _bar(name: str, low: float, high: float, text: str, color: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": label(name),
        "y": [label(name)],
        "x": [100 * (high - low)],
        "base": [100 * low],
        "marker": {"color": color},
        "text": [text],
        "textposition": "outside",
        "textfont": {"size": 12},
        "cliponaxis": False,
        "hovertemplate": f"{label(name)}: {text}<extra></extra>",
        "offsetgroup": "one",
    }


def _table(evaluation: Evaluation, names: list[str]) -> Table:
    lines = []
    for name, row in zip(names, evaluation.attacks, strict=True):
        around = interval(row.get("interval"))
        numbers = [number(row.get(key)) for key in ("num_attacked", "num_fooled")]
        cells = [
            Cell(name, str(row.get("attack", ""))),
            *(Cell(count(value)) for value in numbers),
            Cell(percent(number(row.get("accuracy"))), percent_interval(around) if around else ""),
            Cell(duration(number(row.get("seconds")))),
        ]
        lines.append(TableLine(cells))
    judged = evaluation.protocol or "No named protocol"
    caption = f"{judged}. Right afterwards: with 95{SPACE}% intervals"
    caption += ", after this attack and all before it." if evaluation.cascade else "."
    total = [number(row.get("seconds")) for row in evaluation.attacks]
    if total and all(seconds is not None for seconds in total):
        caption += f" All attacks: {duration(sum(s for s in total if s is not None))}."
    header = ["Attack", "Images attacked", "Fooled", "Right afterwards", "Time"]
    return Table(caption.replace(MISSING + ".", "."), header, lines, frozenset({1, 2, 3, 4}))
