"""What measures said of a network: a table of the values, the curves, the images they show."""

from typing import Any

import numpy as np

from wiry.report.collect_evaluation import read_nearest
from wiry.report.evaluations import CurveData, Evaluation, Examples, MeasureData
from wiry.report.images import cards
from wiry.report.overlay import overlay_plot, points_table
from wiry.report.parts import Cell, Section, Table, TableLine, chart
from wiry.report.reading import interval, number
from wiry.report.words import (
    SPACE,
    count,
    eps_text,
    norm_text,
    percent,
    percent_interval,
    plain,
    titled,
)

SECURITY = "security-curve"
_FEW = 6  # values: more go into a fold below the curves
_HEADINGS = {"clever": "CLEVER", "ddn": "DDN", "deepfool": "DeepFool", "lirpa": "auto_LiRPA"}
_SHARES = frozenset({"at_radius", "fallbacks", "abstained", "r_inf"})
_SHARE_ENDINGS = ("error", "share", "rate")


def measure_sections(
    evaluation: Evaluation, dense: Evaluation | None, notes: list[str], *, security: bool
) -> list[Section]:
    """Return a section for each measure, and one for the images that it shows.

    Args:
        security: of the security curve only, else of all the others.
    """
    found: list[Section] = []
    for measure in evaluation.measures:
        if security != (measure.name == SECURITY):
            continue
        base = _same(measure, dense)
        found.append(_section(evaluation, measure, dense if base else None, base))
        if nearest := _nearest(evaluation, measure, notes):
            found.append(nearest)
    return found


def _same(measure: MeasureData, dense: Evaluation | None) -> MeasureData | None:
    """Return the dense network's answer to the same question."""
    others = dense.measures if dense else []
    return next((m for m in others if (m.name, m.spec) == (measure.name, measure.spec)), None)


def _section(
    evaluation: Evaluation,
    measure: MeasureData,
    dense: Evaluation | None,
    base: MeasureData | None,
) -> Section:
    kinds = list(dict.fromkeys(curve.name for curve in measure.curves))
    groups = [curves_of(kind, measure, base) for kind in kinds]
    judged = [evaluation, dense] if _has_radius(measure, evaluation) else []
    plots = [
        overlay_plot(f"measure-{measure.position}-{place}", curves, judged)
        for place, curves in enumerate(groups)
    ]
    first = not plots or len(measure.values) <= _FEW
    return Section(
        f"measure-{measure.position}",
        heading(measure.name),
        value_table(measure, base),
        lead=measure.remark,
        table_first=first,
        plots=[chart(plot) for plot in plots if plot],
        details=[("The curve as a table", points_table(curves)) for curves in groups],
    )


def curves_of(
    kind: str, measure: MeasureData, base: MeasureData | None
) -> list[tuple[str, CurveData]]:
    """Return the curves of a name, of this network and of the dense one."""
    pairs = (("this network", measure), ("dense network", base))
    return [
        (name, curve)
        for name, source in pairs
        if source
        for curve in source.curves
        if curve.name == kind
    ]


def _has_radius(measure: MeasureData, evaluation: Evaluation) -> bool:
    """Say whether a measure's curve runs over the radius of the evaluation's attacks."""
    return measure.name == SECURITY and norm_of(measure, evaluation) == evaluation.norm


def norm_of(measure: MeasureData, evaluation: Evaluation) -> str | None:
    """Return the norm in which a measure looked; the evaluation's unless it has its own."""
    for source in (measure.values, measure.spec):
        if isinstance(source.get("norm"), str):
            return source["norm"]
    return evaluation.norm


def value_table(measure: MeasureData, base: MeasureData | None) -> Table | None:
    """Return the values of a measure, beside the dense network's."""
    if not measure.values:
        return None
    lines = []
    for key, value in measure.values.items():
        texts = [value, *([base.values.get(key)] if base else [])]
        lines.append(
            TableLine([Cell(titled(key)), *(Cell(written(measure, key, v)) for v in texts)])
        )
    header = ["", "This network", "Dense network"][: 3 if base else 2]
    given = {key: value for key, value in measure.spec.items() if key != "name"}
    caption = f"Settings: {plain(given)}." if given else "With the default settings."
    return Table(caption, header, lines, frozenset({1, 2}), narrow=True)


def heading(name: str) -> str:
    """Write a measure's name as a heading."""
    return _HEADINGS.get(name, titled(name))


def written(measure: MeasureData, key: str, value: Any) -> str:
    """Write a value: shares in percent, intervals, radii, counts, words."""
    share, pair = number(value), interval(value)
    if key == "norm" and isinstance(value, str):
        return norm_text(value)
    if pair is not None and key.endswith("interval"):
        return percent_interval(pair)
    if share is None or isinstance(value, bool):
        return plain(value)
    if key.startswith("num_"):
        return count(share)
    if key == "eps":
        return eps_text(share)
    named = "accuracy" in key or key.endswith(_SHARE_ENDINGS) or key in _SHARES
    is_share = named or measure.name == "corruptions"
    return percent(share) if is_share and isinstance(value, float) else plain(value)


def _nearest(evaluation: Evaluation, measure: MeasureData, notes: list[str]) -> Section | None:
    examples = read_nearest(evaluation, measure, notes)
    if examples is None or not (examples := _sorted(examples)):
        return None
    norm = norm_of(measure, evaluation)
    text = (
        f"The images that needed the smallest change ({norm_text(norm)}), as far as "
        f"the measure {measure.name} found, the nearest first. Below each clean image is what "
        "the network sees there, below each attacked one what it sees then."
    )
    shown = cards(examples, evaluation.class_names, lambda d: _distance(d, norm))
    title = "Images nearest to the boundary"
    return Section(f"nearest-{measure.position}", title, text=text, cards=shown)


def _sorted(examples: Examples) -> Examples | None:
    """Return the images by distance; those without one were never fooled and are left out."""
    if examples.distance is None:
        return examples
    order = np.argsort(examples.distance, kind="stable")
    order = order[np.isfinite(examples.distance[order])]
    if not len(order):
        return None
    return Examples(**{key: value[order] for key, value in vars(examples).items()})


def _distance(distance: float, norm: str | None) -> str:
    text = f"{norm_text(norm)} distance{SPACE}{distance:.4g}"
    return f"{text} ({255 * distance:.2g}/255)" if norm == "linf" else text
