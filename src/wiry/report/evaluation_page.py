"""The page of an evaluation of a network that wiry did not train."""

from pathlib import Path
from typing import Any

from wiry.report.alarms import evaluation_alarms
from wiry.report.collect_folder import collect_folder
from wiry.report.parts import Cell, Section, Table, TableLine
from wiry.report.sections import evaluation_sections
from wiry.report.verdict_evaluation import evaluation_verdict
from wiry.report.words import plain, titled


def evaluation_context(root: Path) -> dict[str, Any]:
    """Return what the template needs for the page of an evaluation's folder.

    Raises:
        UserError: if there are several evaluations, or the one cannot be read.
    """
    folder = collect_folder(root)
    found: list[str] = []
    sections = evaluation_sections(folder.evaluation, None, folder.name, found)
    if folder.target:
        sections.append(_target(folder.target))
    for position, (name, text) in enumerate(folder.cards.items()):
        sections.append(Section(f"card-{position}", f"Card: {name}", pre=text))
    notes = [*folder.notes, *found]
    if notes:
        sections.append(Section("notes", "Notes", notes=notes))
    return {
        "title": f"{folder.name} \N{EN DASH} wiry evaluation",
        "kicker": f"Evaluation {folder.root.resolve().name}",
        "warnings": evaluation_alarms(folder.evaluation, notes),
        "verdict": evaluation_verdict(folder),
        "sections": sections,
    }


def _target(target: dict[str, Any]) -> Section:
    """Return what was judged, with what the network's reader was told."""
    remarks, provenance = target.get("remarks"), target.get("provenance")
    known = {key: target[key] for key in target if key not in ("remarks", "provenance")}
    known |= provenance if isinstance(provenance, dict) else {}
    lines = [
        TableLine([Cell(titled(key)), Cell(plain(value))])
        for key, value in known.items()
        if value not in (None, [], {})
    ]
    table = Table("Where network and images come from.", ["What", "Value"], lines)
    notes = [str(remark) for remark in remarks] if isinstance(remarks, list) else []
    return Section("target", "What was judged", table, notes=notes)
