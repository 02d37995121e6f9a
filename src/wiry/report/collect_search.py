"""Reads a search directory: `search.json`, and the runs of the networks that the page is about."""

from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.report.collect import collect_run
from wiry.report.reading import interval, number, objects, read_object
from wiry.report.records import Row, RunData, SearchData, component_name


def collect_search(root: Path) -> SearchData:
    """Read a search directory.

    Raises:
        UserError: if search.json holds nothing readable.
    """
    root = Path(root)
    notes: list[str] = []
    warnings: list[str] = []
    raw = read_object(root / "search.json", notes, root)
    if not raw:
        raise UserError(f"{str(root / 'search.json')!r} holds no search; run the search again")
    dense, winner, nearest = (_row(raw.get(key)) for key in ("dense", "winner", "nearest"))
    rows = [r for r in map(_row, objects(raw.get("candidates"))) if r]
    subject = winner or nearest
    settings = raw.get("settings")
    constraint = raw.get("constraint")
    constraint = constraint if isinstance(constraint, dict) else {}
    if dense is None:
        notes.append("search.json: has no dense baseline.")
    return SearchData(
        root=root,
        name=str(raw.get("name") or root.name),
        data=component_name(raw.get("data")),
        model=component_name(raw.get("model")),
        settings=settings if isinstance(settings, dict) else {},
        constraint={key: number(constraint.get(key)) for key in ("clean", "robust")},
        thresholds_text=str(raw.get("thresholds_text") or ""),
        dense=dense,
        candidates=rows,
        winner=winner,
        nearest=nearest,
        finished=raw.get("finished") is True,
        stopped=None if raw.get("stopped") is None else str(raw["stopped"]),
        best=_best(root, raw.get("best"), notes),
        seconds=number(raw.get("seconds")),
        dense_run=_run_of(root, dense, notes, warnings),
        subject_run=_run_of(root, subject, notes, warnings),
        notes=notes,
        warnings=warnings,
    )


def find_run(root: Path, place: str) -> Path | None:
    """Return the run directory that a row names, relative to the search or to its trials."""
    for folder in (root / place, root / "trials" / place):
        if place and (folder / "stages").is_dir():
            return folder
    return None


def _run_of(root: Path, row: Row | None, notes: list[str], warnings: list[str]) -> RunData | None:
    if row is None:
        return None
    folder = find_run(root, row.run)
    if folder is None:
        text = f"{row.run or 'run'}: the run of {row.method!r} is missing."
        notes.append(text)
        warnings.append(text)
        return None
    run = collect_run(folder)
    for found, kept in ((run.notes, notes), (run.warnings, warnings)):
        named = [f"{row.run}/{note}" for note in found]
        kept.extend(note for note in named if note not in kept)
    return run


def _best(root: Path, best: Any, notes: list[str]) -> str | None:
    if best is None:
        return None
    if not (root / str(best)).is_dir():
        notes.append(f"{best}: search.json names this directory, but it is missing.")
        return None
    return str(best)


def _row(raw: Any) -> Row | None:
    if not isinstance(raw, dict):
        return None
    density, sparsity = number(raw.get("density")), number(raw.get("sparsity"))
    if density is None and sparsity is not None:
        density = 1 - sparsity
    nonzeros = number(raw.get("nonzeros"))
    runs = raw.get("runs")
    return Row(
        method=str(raw.get("method", "?")),
        density=density,
        nonzeros=None if nonzeros is None else int(nonzeros),
        clean_accuracy=number(raw.get("clean_accuracy")),
        clean_interval=interval(raw.get("clean_interval")),
        robust_accuracy=number(raw.get("robust_accuracy")),
        robust_interval=interval(raw.get("robust_interval")),
        validation_clean=number(raw.get("validation_clean")),
        validation_robust=number(raw.get("validation_robust")),
        eps=number(raw.get("eps")),
        norm=None if raw.get("norm") is None else str(raw["norm"]),
        attack=None if raw.get("attack") is None else str(raw["attack"]),
        run=str(raw.get("run") or ""),
        stage=None if raw.get("stage") is None else str(raw["stage"]),
        runs=[str(r) for r in runs] if isinstance(runs, list) else [],
        per_seed=[
            (number(s.get("clean")), number(s.get("robust"))) for s in objects(raw.get("per_seed"))
        ],
        verdict=str(raw.get("verdict") or ""),
        reason=str(raw.get("reason") or ""),
    )
