"""Writes `report.html`: one page that holds all it needs and opens without a network.

The page is made from the directory of a run, a search, a comparison or an evaluation, with the
template, style sheet and script in `templates/`. What comes from files is escaped; the page's own
policy forbids outside loads.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from wiry.core.files import write_atomic
from wiry.report.alarms import run_alarms, search_alarms
from wiry.report.collect import collect_run, is_search
from wiry.report.collect_folder import is_evaluation
from wiry.report.collect_search import collect_search
from wiry.report.compare import is_comparison
from wiry.report.compare_page import comparison_context
from wiry.report.curves import curve_plots, early_stop_plots, stage_plot, weight_plots
from wiry.report.evaluation_page import evaluation_context
from wiry.report.parts import Section, chart
from wiry.report.plots import density_plot
from wiry.report.records import Row, RunData, SearchData, StageData
from wiry.report.sections import (
    candidate_table,
    source_sections,
    stage_table,
    subject_sections,
)
from wiry.report.verdict import run_verdict, search_verdict
from wiry.report.words import percent

_TEMPLATES = Environment(
    loader=PackageLoader("wiry.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(root: Path) -> Path:
    """Write `root/report.html` for a run, a search, a comparison or an evaluation.

    Returns:
        Its path.

    Raises:
        UserError: if `root` is none of them.
    """
    root = Path(root)
    if is_comparison(root):
        context = comparison_context(root)
    elif is_evaluation(root) and not is_search(root):
        context = evaluation_context(root)
    else:
        context = _search_context(root) if is_search(root) else _run_context(root)
    has_plots = any(section.plots for section in context["sections"])
    page = _TEMPLATES.get_template("report.html").render(
        **context,
        place=root.resolve().name,
        has_plots=has_plots,
        css=_file("style.css"),
        js=_file("report.js"),
        plotlyjs=Markup(get_plotlyjs()) if has_plots else "",
    )
    write_atomic(root / "report.html", page)
    return root / "report.html"


def _file(name: str) -> Markup:
    """Return a file of ours from `templates/`; it is not escaped."""
    loader = _TEMPLATES.loader
    assert loader is not None, "set above"
    return Markup(loader.get_source(_TEMPLATES, name)[0])


def _search_context(root: Path) -> dict[str, Any]:
    search = collect_search(root)
    stage = _stage_of(search.subject_run, search.subject)
    dense = _stage_of(search.dense_run, search.dense)
    sections = [Section("candidates", "Candidates", candidate_table(search))]
    density = density_plot(search)
    if density:
        sections.append(Section("density", "Accuracy against weights left", plots=[chart(density)]))
    sections += _training(_search_curves(search, stage, dense))
    found: list[str] = []
    name = search.subject.method if search.subject else ""
    sections += subject_sections(stage, dense, f"the network found by {name}", found)
    sections += source_sections(search.subject_run or search.dense_run, [*search.notes, *found])
    verdict = search_verdict(
        search, stage.evaluation if stage else None, dense.evaluation if dense else None
    )
    return {
        "title": f"{search.name} \N{EN DASH} wiry search",
        "kicker": f"Search {search.name}",
        "warnings": search_alarms(search, stage, dense, found),
        "verdict": verdict,
        "sections": sections,
    }


def _run_context(root: Path) -> dict[str, Any]:
    run = collect_run(root)
    sections = [Section("stages", "Stages", stage_table(run))] if run.stages else []
    density = stage_plot(run)
    if density:
        sections.append(Section("density", "Accuracy against weights left", plots=[chart(density)]))
    sections += _training([(f"{s.name}, {percent(s.density)}", s) for s in run.stages])
    sections += _lottery(run)
    found: list[str] = []
    sections += subject_sections(run.last, run.dense, "the last stage's network", found)
    sections += source_sections(run, [*run.notes, *found])
    return {
        "title": f"{run.name} \N{EN DASH} wiry run",
        "kicker": f"Run {run.root.resolve().name}",
        "warnings": run_alarms(run, found),
        "verdict": run_verdict(run),
        "sections": sections,
    }


def _stage_of(run: RunData | None, row: Row | None) -> StageData | None:
    """Return the stage that a row names; a row without a stage means the last one evaluated."""
    if run is None or row is None:
        return None
    return run.stage(row.stage) if row.stage else run.last


def _search_curves(
    search: SearchData, stage: StageData | None, dense: StageData | None
) -> list[tuple[str, StageData]]:
    curves = [("dense", dense)] if dense else []
    if stage and search.subject and (dense is None or stage.folder != dense.folder):
        curves.append((f"{search.subject.method}, {percent(search.subject.density)}", stage))
    return curves


def _training(stages: list[tuple[str, StageData]]) -> list[Section]:
    plots = curve_plots(stages)
    return [Section("training", "Training", plots=[chart(p) for p in plots])] if plots else []


def _lottery(run: RunData) -> list[Section]:
    sections = []
    early, weights = early_stop_plots(run), weight_plots(run)
    if early:
        charts = [chart(plot) for plot in early]
        sections.append(Section("early", "Early stopping", plots=charts))
    if weights:
        charts = [chart(plot, position) for position, plot in enumerate(weights)]
        sections.append(Section("weights", "Initial weights that survive", plots=charts))
    return sections
