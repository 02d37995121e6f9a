"""Reads run and search directories into the records of `records`. Imports no torch.

A piece that is missing, malformed or cut short by a kill is left out and named in the notes; only a
directory that is neither a run nor a search is an error.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from wiry.core.errors import UserError
from wiry.report.collect_evaluation import BESIDE, read_evaluation
from wiry.report.reading import number, read_object
from wiry.report.records import RunData, StageData

_NOT_EVALUATED = "/eval: not evaluated."  # no fault: a search evaluates its finalists only


def is_search(root: Path) -> bool:
    """Say whether a directory is a search."""
    return (root / "search.json").is_file()


def collect_run(root: Path) -> RunData:
    """Read a run directory.

    Raises:
        UserError: if the directory is no run at all.
    """
    root = Path(root)
    if not (root / "recipe.yaml").is_file() and not (root / "stages").is_dir():
        raise UserError(
            f"{str(root)!r} is neither a run nor a search nor an evaluation: it has no "
            "recipe.yaml, no stages, no search.json and no evaluation.json; name a directory that "
            "`wiry train`, `wiry search` or `wiry evaluate` wrote"
        )
    notes: list[str] = []
    text, recipe = _read_recipe(root / "recipe.yaml", notes)
    provenance = read_object(root / "provenance.json", notes, root)
    folders = [p for p in (root / "stages").glob("*-*") if p.is_dir()]
    warnings: list[str] = []
    stages = []
    for folder in sorted(folders, key=_position):
        found: list[str] = []
        stages.append(_read_stage(folder, found, root))
        notes += found
        if (folder / "DONE").is_file():
            warnings += [note for note in found if not note.endswith(_NOT_EVALUATED)]
    if not stages:
        notes.append("stages: no stage has been started.")
    return RunData(root, recipe, text, provenance, stages, notes, warnings)


def _read_recipe(path: Path, notes: list[str]) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        notes.append("recipe.yaml: missing.")
        return "", {}
    try:
        text = path.read_text(encoding="utf-8")
        recipe = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        notes.append("recipe.yaml: not readable, left out.")
        return "", {}
    return text, recipe if isinstance(recipe, dict) else {}


def _position(folder: Path) -> tuple[int, str]:
    first = folder.name.partition("-")[0]
    return (int(first) if first.isdecimal() else 10**9, folder.name)


def _read_stage(folder: Path, notes: list[str], root: Path) -> StageData:
    place = folder.relative_to(root).as_posix()
    done = None
    if (folder / "DONE").is_file():
        done = read_object(folder / "DONE", notes, root)
    else:
        notes.append(f"{place}: not finished (no DONE).")
    found = sorted((folder / "eval").glob("*.json"))
    paths = [path for path in found if path.name not in BESIDE]
    evaluations = [e for e in (read_evaluation(p, notes, root) for p in paths) if e]
    if done is not None and not paths:
        notes.append(f"{place}{_NOT_EVALUATED}")
    files = (done or {}).get("files")
    for name in files if isinstance(files, dict) else ():
        if not (folder / name).is_file():
            notes.append(f"{place}/{name}: missing, though DONE lists it.")
    name = folder.name.partition("-")[2]
    metrics = _read_metrics(folder / "metrics.jsonl", notes, root)
    return StageData(name, folder, _numbers_in(done), metrics, evaluations)


def _numbers_in(done: dict[str, Any] | None) -> dict[str, Any] | None:
    if done is None:
        return None
    keys = ("steps", "epochs", "seconds", "density")
    return done | {key: number(done.get(key)) for key in keys}


def _kept(name: str, value: Any) -> Any:
    if isinstance(value, dict) or (name == "alarm" and isinstance(value, str)):
        return value
    return number(value)


def _read_metrics(path: Path, notes: list[str], root: Path) -> list[dict[str, Any]]:
    name = path.relative_to(root).as_posix()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        notes.append(f"{name}: missing.")
        return []
    rows = []
    for position, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            notes.append(f"{name}: line {position} is cut short; it and what follows is left out.")
            break
        if isinstance(row, dict) and number(row.get("step")) is not None:
            rows.append({k: _kept(k, v) for k, v in row.items()})
    return rows
