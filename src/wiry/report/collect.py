"""Reads run and search directories into the records of `records`. Imports no torch.

A piece that is missing, malformed or cut short by a kill is left out and named in the notes; only a
directory that is neither a run nor a search is an error.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wiry.core.errors import UserError
from wiry.report.records import Evaluation, Examples, Interval, RunData, StageData

_NOT_EVALUATED = "/eval: not evaluated."  # no fault: a search evaluates its finalists only
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


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
            f"{str(root)!r} is neither a run nor a search: it has no recipe.yaml, no stages and no "
            "search.json; name a directory that `wiry train` or `wiry search` wrote"
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


def read_object(path: Path, notes: list[str], root: Path) -> dict[str, Any]:
    """Read a JSON object; a failure is noted and gives an empty one."""
    name = path.relative_to(root).as_posix()
    if not path.is_file():
        notes.append(f"{name}: missing.")
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        notes.append(f"{name}: not readable (half-written?), left out.")
        return {}
    if not isinstance(data, dict):
        notes.append(f"{name}: not a JSON object, left out.")
        return {}
    return data


def number(value: Any) -> float | None:
    """Return a finite number, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None


def interval(value: Any) -> Interval | None:
    """Return a pair of finite numbers, else None."""
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = number(value[0]), number(value[1])
        if low is not None and high is not None:
            return low, high
    return None


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, else an empty list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def read_examples(evaluation: Evaluation, notes: list[str]) -> Examples | None:
    """Read the example images beside an evaluation; a failure is noted and gives None."""
    path = evaluation.file.with_suffix(".npz")
    if not path.is_file():
        notes.append(f"eval/{path.name}: missing, so no example images are shown.")
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if "example_clean" not in arrays:
                return None
            examples = Examples(
                clean=_unit(arrays["example_clean"]),
                adversarial=_unit(arrays["example_adversarial"]),
                label=arrays["example_label"].astype(int),
                clean_prediction=arrays["example_clean_prediction"].astype(int),
                adversarial_prediction=arrays["example_adversarial_prediction"].astype(int),
            )
    except _UNREADABLE:
        notes.append(f"eval/{path.name}: not readable (half-written?), no example images.")
        return None
    lengths = {len(v) for v in vars(examples).values()}
    if len(lengths) != 1 or examples.clean.ndim != 4 or examples.clean.shape[1] not in (1, 3):
        notes.append(f"eval/{path.name}: example images have an unknown shape, left out.")
        return None
    return examples if len(examples.label) else None


def _unit(images: np.ndarray) -> np.ndarray:
    scale = 255 if images.dtype == np.uint8 else 1
    return np.clip(images.astype(np.float32) / scale, 0, 1)


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
    paths = sorted((folder / "eval").glob("*.json"))
    evaluations = [e for e in (_read_evaluation(p, notes, root) for p in paths) if e]
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


def _read_evaluation(path: Path, notes: list[str], root: Path) -> Evaluation | None:
    raw = read_object(path, notes, root)
    clean, count = number(raw.get("clean_accuracy")), number(raw.get("num_samples"))
    if not raw:
        return None
    if clean is None or count is None:
        notes.append(f"{path.relative_to(root).as_posix()}: has no clean accuracy, left out.")
        return None
    cost = raw.get("cost")
    names = raw.get("class_names")
    return Evaluation(
        file=path,
        split=str(raw.get("split", "?")),
        num_samples=int(count),
        clean_accuracy=clean,
        clean_interval=interval(raw.get("clean_interval")),
        robust_accuracy=number(raw.get("robust_accuracy")),
        robust_interval=interval(raw.get("robust_interval")),
        eps=number(raw.get("eps")),
        norm=_text(raw.get("norm")),
        attack=_text(raw.get("attack")),
        attacks=objects(raw.get("attacks")),
        class_names=[str(n) for n in names] if isinstance(names, list) else [],
        per_class=objects(raw.get("per_class")),
        cost=_cost(cost) if isinstance(cost, dict) else {},
    )


def _cost(raw: dict[str, Any]) -> dict[str, Any]:
    numbers = {k: n for k, v in raw.items() if (n := number(v)) is not None}
    layers = [
        {"name": str(layer.get("name", "?")), "density": number(layer.get("density"))}
        | {key: number(layer.get(key)) for key in ("kept", "nonzeros", "entries")}
        for layer in objects(raw.get("layers"))
    ]
    return numbers | {"layers": [layer for layer in layers if layer["density"] is not None]}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
