"""The evaluations behind a comparison: by what protocol, with what doubts, their security curves.

They are read from the runs that `compare.json` names; where these are gone, nothing is said.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wiry.report.collect_evaluation import BESIDE, read_evaluation
from wiry.report.compare import DENSE, CompareData
from wiry.report.evaluations import CurveData, Evaluation
from wiry.report.measures import SECURITY
from wiry.report.overlay import NUM_SHOWN, overlay_plot, points_table
from wiry.report.parts import Section, chart
from wiry.report.reading import number, objects, text_of
from wiry.report.words import SPACE, percent, points


@dataclass(frozen=True)
class Judged:
    """One network of a comparison and how it was judged."""

    method: str
    sparsity: float
    seed: str
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """The network in words."""
        where = "" if self.method == DENSE else f" at {percent(self.sparsity)}"
        return f"{self.method}{where}, seed {self.seed}"


def read_judged(data: CompareData) -> list[Judged]:
    """Return the evaluations on test images of all networks whose files are there."""
    found = []
    for row in objects(data.raw.get("rows")):
        sparsity, run, stage = number(row.get("sparsity")), row.get("run"), row.get("stage")
        if sparsity is None or not isinstance(run, str) or not isinstance(stage, str):
            continue
        evaluation = _evaluation(data.root / run, stage, text_of(row.get("evaluation")))
        if evaluation:
            method, seed = str(row.get("method", "?")), str(row.get("seed", "?"))
            found.append(Judged(method, sparsity, seed, evaluation))
    return found


def _evaluation(run: Path, stage: str, name: str | None) -> Evaluation | None:
    file = f"{glob.escape(name)}.json" if name else "test-*.json"  # older comparisons name none
    paths = run.glob(f"stages/*-{glob.escape(stage)}/eval/{file}")
    kept = [path for path in sorted(paths) if path.name not in BESIDE]
    return read_evaluation(kept[0], [], run) if len(kept) == 1 else None


def protocol_text(judged: Sequence[Judged]) -> str:
    """Name the protocols that judged, and how much too high what they screened may be."""
    names = dict.fromkeys(one.evaluation.protocol for one in judged)
    known = [name for name in names if name]
    if not known:
        return ""
    bounds = [
        bound
        for one in judged
        if (bound := number((one.evaluation.screened or {}).get("accuracy_bound"))) is not None
    ]
    text = " and ".join(known)
    if bounds:
        text += (
            f" (with 95{SPACE}% confidence for each network, at most {points(max(bounds))} "
            "too high)"
        )
    return text


def judging_warnings(judged: Sequence[Judged]) -> list[str]:
    """Say that protocols differ, and what checks found, each once with the networks it is about."""
    found = []
    ways = {one.evaluation.protocol or one.evaluation.attack for one in judged}
    radii = {(one.evaluation.eps, one.evaluation.norm) for one in judged}
    if len(ways) > 1 or len(radii) > 1:
        names = "; ".join(sorted(str(way) for way in ways))
        found.append(
            f"The networks were not judged alike ({names}): their robust accuracies cannot be "
            "compared."
        )
    doubts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one in judged:
        for finding in one.evaluation.findings or []:
            if finding.severity != "note":
                key = (finding.severity, finding.check)
                doubts.setdefault(key, []).append((one.name, finding.message))
    for (severity, check), where in doubts.items():
        (name, message), more = where[0], len(where) - 1
        others = f" and {more} more" if more else ""
        found.append(f"{severity.title()} ({check}) for {name}{others}: {message}")
    return found


def curve_section(data: CompareData, judged: Sequence[Judged]) -> Section | None:
    """Return the security curves: dense and the best methods in one plot a sparsity."""
    plots, details = [], []
    for position, sparsity in enumerate(data.sparsities):
        curves = _curves(data, judged, sparsity)
        if not any(name != DENSE for name, _ in curves):
            continue
        caption = "Means over the seeds; the dense networks and the methods of the best mean rank."
        plot = overlay_plot(f"security-{position}", curves, caption=caption)
        if plot:
            title = f"{percent(sparsity)} sparsity"
            plots.append(chart(plot) | {"title": title})
            details.append((f"{title} as a table", points_table(curves)))
    if not plots:
        return None
    return Section("security", "Security curves", plots=plots, details=details)


def _curves(
    data: CompareData, judged: Sequence[Judged], sparsity: float
) -> list[tuple[str, CurveData]]:
    found = []
    for method in [DENSE, *data.by_rank]:
        level = 0.0 if method == DENSE else sparsity
        mine = [one for one in judged if (one.method, one.sparsity) == (method, level)]
        measures = [one.evaluation.measure(SECURITY) for one in mine]
        curves = [measure.curves[0] for measure in measures if measure and measure.curves]
        if curves and len(found) < NUM_SHOWN:
            found.append((method, mean_curve(curves)))
    return found


def mean_curve(curves: Sequence[CurveData]) -> CurveData:
    """Return the mean of curves over one axis, at the points that all have; else the first."""
    first = curves[0]
    values = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves]
    shared = [x for x in first.x if all(x in found for found in values)]
    if not shared:
        return first
    mean = [sum(found[x] for found in values) / len(values) for x in shared]
    return CurveData(first.name, first.x_label, shared, mean, first.y_label)
