"""What sparsity changed, image by image, and whether attacks carry over.

Both are files beside an evaluation, `flips.json` and `transfer.json`.
"""

from pathlib import Path
from typing import Any

from wiry.report.attacks import short_names
from wiry.report.collect_evaluation import curve_of
from wiry.report.evaluations import CurveData
from wiry.report.overlay import overlay_plot, points_table
from wiry.report.parts import Cell, Section, Table, TableLine, chart
from wiry.report.plots import CATEGORIES, Plot, label
from wiry.report.reading import interval, number, objects, read_object, text_of
from wiry.report.words import MISSING, SPACE, count, percent, signed_points

_KINDS = ("clean", "robust")
_COUNTS = ("num_kept", "num_lost", "num_gained", "num_wrong")


def beside_sections(folder: Path, notes: list[str]) -> list[Section]:
    """Return the sections on the files beside an evaluation; those that are not there are not."""
    found = []
    for name, write in (("flips.json", _flips), ("transfer.json", _transfer)):
        if not (folder / name).is_file():
            continue
        raw = read_object(folder / name, notes, folder)
        section = write(raw) if raw else None
        if section:
            found.append(section)
        elif raw:
            notes.append(f"{name}: not what wiry writes, left out.")
    return found


def _flips(raw: dict[str, Any]) -> Section | None:
    kinds = [(kind, raw[kind]) for kind in _KINDS if isinstance(raw.get(kind), dict)]
    if not kinds:
        return None
    header = ["Verdicts", "Both right", "Lost", "Gained", "Both wrong", "Difference", "p"]
    dense, sparse = (text_of(raw.get(key)) for key in ("dense", "sparse"))
    caption = (
        f"Lost: images that only {dense or 'the dense network'} has right; gained: only "
        f"{sparse or 'the sparse one'}. The difference is the second's accuracy minus the first's, "
        f"with its 95{SPACE}% interval for the choice of images; p is of no difference (McNemar, "
        "exact)."
    )
    table = Table(caption, header, [_verdicts(*pair) for pair in kinds], frozenset(range(1, 7)))
    curves = [(kind, curve) for kind, found in kinds if (curve := _foretold(found))]
    text = "Share of the images that the sparse network lost, in groups by the dense one's margin."
    plot = overlay_plot("flips", curves, caption=text)
    details = [(f"By class, {kind}", _classes(kind, found)) for kind, found in kinds]
    details = [(summary, by_class) for summary, by_class in details if by_class.rows]
    if curves:
        details.append(("The curves as a table", points_table(curves)))
    return Section(
        "flips",
        "What sparsity changed",
        table,
        lead=" ".join(_sentence(*pair) for pair in kinds),
        plots=[chart(plot)] if plot else [],
        details=details,
        notes=[text for pair in kinds if (text := _told(*pair))],
    )


def _verdicts(kind: str, found: dict[str, Any]) -> TableLine:
    around = interval(found.get("interval"))
    low_high = f"{signed_points(around[0])} to {signed_points(around[1])}" if around else ""
    difference = number(found.get("difference"))
    cells = [
        Cell(kind),
        *(Cell(count(number(found.get(key)))) for key in _COUNTS),
        Cell(MISSING if difference is None else f"{signed_points(difference)} points", low_high),
        Cell(_p_value(number(found.get("p_value")))),
    ]
    return TableLine(cells)


def _sentence(kind: str, found: dict[str, Any]) -> str:
    lost, gained, around = (
        number(found.get("num_lost")),
        number(found.get("num_gained")),
        interval(found.get("interval")),
    )
    if lost is None or gained is None:
        return ""
    apart = around is not None and not around[0] <= 0 <= around[1]
    sure = "these images tell the two apart" if apart else "these images do not tell the two apart"
    return f"{kind.title()}: {count(lost)} images lost, {count(gained)} gained; {sure}."


def _told(kind: str, found: dict[str, Any]) -> str:
    foretold = found.get("foretold")
    auc = number(foretold.get("auc")) if isinstance(foretold, dict) else None
    if auc is None:
        return ""
    return (
        f"The dense network's margin foretells which {kind} verdicts are lost with an area under "
        f"the curve of {auc:.2f} (0.5: not at all, 1: fully)."
    )


def _foretold(found: dict[str, Any]) -> CurveData | None:
    foretold = found.get("foretold")
    curve = foretold.get("curve") if isinstance(foretold, dict) else None
    read = curve_of(curve) if isinstance(curve, dict) else None
    return read if read and read.x else None


def _classes(kind: str, found: dict[str, Any]) -> Table:
    lines = [
        TableLine(
            [
                Cell(str(row.get("name", "?"))),
                Cell(count(number(row.get("num")))),
                Cell(percent(number(row.get("dense")))),
                Cell(percent(number(row.get("sparse")))),
                Cell(count(number(row.get("lost")))),
                Cell(count(number(row.get("gained")))),
            ]
        )
        for row in objects(found.get("per_class"))
    ]
    header = ["Class", "Images", "Dense", "Sparse", "Lost", "Gained"]
    return Table(f"By class, {kind} verdicts.", header, lines, frozenset(range(1, 6)))


def _p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return "below 0.0001" if p < 1e-4 else f"{p:.2g}"


def _transfer(raw: dict[str, Any]) -> Section | None:
    names = raw.get("names")
    names = [str(name) for name in names] if isinstance(names, list) else []
    accuracy = _matrix(raw.get("accuracy"), len(names))
    if not names or accuracy is None:
        return None
    clean = raw.get("clean_accuracy")
    clean = [number(c) for c in clean] if isinstance(clean, list) else []
    lines = [
        TableLine([Cell(name), *(Cell(percent(share)) for share in row)])
        for name, row in zip(names, accuracy, strict=True)
    ]
    if len(clean) == len(names):
        cells = [Cell("clean images"), *(Cell(percent(share)) for share in clean)]
        lines.insert(0, TableLine(cells, "baseline"))
    caption = "Accuracy of the network of a column on images that were made for that of a row."
    header = ["Made for", *names]
    table = Table(caption, header, lines, frozenset(range(1, len(header))))
    num = number(raw.get("num_samples"))
    attacks = raw.get("attacks")
    rows = [{"attack": attack} for attack in attacks] if isinstance(attacks, list) else []
    by = ", ".join(short_names(rows)) or "The attack"
    return Section(
        "transfer",
        "Do attacks carry over?",
        table,
        table_first=False,
        plots=[chart(_heat(names, accuracy))],
        notes=[f"{by} on {count(num)} images. The diagonal is the white box."],
    )


def _matrix(raw: Any, num: int) -> list[list[float | None]] | None:
    rows = raw if isinstance(raw, list) and len(raw) == num else []
    if not all(isinstance(row, list) and len(row) == num for row in rows):
        return None
    return [[number(share) for share in row] for row in rows] or None


def _heat(names: list[str], accuracy: list[list[float | None]]) -> Plot:
    shares = [[None if s is None else 100 * s for s in row] for row in accuracy]
    shown = [label(name) for name in names]
    shade = {
        "type": "heatmap",
        "x": shown,
        "y": shown,
        "z": shares,
        "text": [[percent(s) for s in row] for row in accuracy],
        "texttemplate": "%{text}",
        "textfont": {"color": "@ink"},
        "hovertemplate": "made for %{y}, put to %{x}: %{text}<extra></extra>",
        "colorscale": [[0, "@heat-low"], [1, "@heat-high"]],
        "zmin": 0,
        "zmax": 100,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
    }
    axis = {"type": "category", "showgrid": False}
    layout = {
        "xaxis": axis | {"side": "top", "title": {"text": "put to"}},
        "yaxis": CATEGORIES | {"title": {"text": "made for"}},
        "margin": {"l": 52, "r": 14, "t": 60, "b": 14},
    }
    caption = (
        "Accuracy of the network above on images that were made for the one at the left; the "
        "weaker the colour, the more they fool it."
    )
    alt = "Accuracies on attacks made for another network; the numbers are in the table below."
    height = 110 + 44 * len(names)
    return Plot("transfer", "Do attacks carry over?", alt, caption, [shade], layout, height)
