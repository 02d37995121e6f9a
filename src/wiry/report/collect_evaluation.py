"""Reads evaluations: `<name>.json` and the images in `<name>.npz`. Imports no torch.

Records of earlier versions lack keys; what is not there is None or empty, never made up.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from wiry.report.evaluations import CurveData, Evaluation, Examples, FindingRow, MeasureData
from wiry.report.reading import interval, number, objects, read_object, text_of

BESIDE = ("flips.json", "transfer.json")
"""Files beside an evaluation that are no evaluations."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
_ORDER = {"error": 0, "warning": 1, "note": 2}  # what is unknown is a warning


def read_evaluation(path: Path, notes: list[str], root: Path) -> Evaluation | None:
    """Read one evaluation; a failure is noted and gives None."""
    raw = read_object(path, notes, root)
    clean, count = number(raw.get("clean_accuracy")), number(raw.get("num_samples"))
    if not raw:
        return None
    if clean is None or count is None:
        notes.append(f"{path.relative_to(root).as_posix()}: has no clean accuracy, left out.")
        return None
    cost = raw.get("cost")
    findings = raw.get("findings")
    return Evaluation(
        file=path,
        split=str(raw.get("split", "?")),
        num_samples=int(count),
        clean_accuracy=clean,
        clean_interval=interval(raw.get("clean_interval")),
        robust_accuracy=number(raw.get("robust_accuracy")),
        robust_interval=interval(raw.get("robust_interval")),
        eps=number(raw.get("eps")),
        norm=text_of(raw.get("norm")),
        attack=text_of(raw.get("attack")),
        attacks=objects(raw.get("attacks")),
        class_names=_texts(raw.get("class_names")) or [],
        per_class=objects(raw.get("per_class")),
        cost=_cost(cost) if isinstance(cost, dict) else {},
        protocol=text_of(raw.get("protocol")),
        cascade=raw.get("cascade") is True,
        seconds=number(raw.get("seconds")),
        findings=_findings(findings) if _was_checked(raw) else None,
        checks=_texts(raw.get("checks")),
        measures=_measures(raw.get("measures")),
        certified=_object(raw.get("certified")),
        screened=_object(raw.get("screened")),
    )


def _was_checked(raw: dict[str, Any]) -> bool:
    """Say whether somebody looked: an empty list of findings alone may mean that nobody did."""
    asked = _object(raw.get("asked")) or {}
    none_ran = asked.get("check") is False or raw.get("checks") == []
    return isinstance(raw.get("findings"), list) and not none_ran


def _findings(raw: Any) -> list[FindingRow]:
    found = [
        FindingRow(
            check=str(row.get("check", "?")),
            severity=str(row.get("severity", "warning")),
            message=str(row.get("message", "")),
            evidence=_object(row.get("evidence")) or {},
        )
        for row in objects(raw)
    ]
    return sorted(found, key=lambda finding: _ORDER.get(finding.severity, 1))


def _measures(raw: Any) -> list[MeasureData]:
    rows = raw if isinstance(raw, list) else []  # the position counts what cannot be read, too
    return [
        MeasureData(
            position=position,
            name=str(row.get("measure", "?")),
            spec=_object(row.get("spec")) or {},
            values=_object(row.get("values")) or {},
            remark=text_of(row.get("remark")) or "",
            curves=[c for c in map(curve_of, objects(row.get("curves"))) if c.x],
            arrays=_texts(row.get("arrays")) or [],
        )
        for position, row in enumerate(rows)
        if isinstance(row, dict)
    ]


def curve_of(raw: dict[str, Any]) -> CurveData:
    """Read a curve; points of which a coordinate is no number are left out."""
    both = (raw.get(key) if isinstance(raw.get(key), list) else [] for key in ("x", "y"))
    pairs = [(number(x), number(y)) for x, y in zip(*both, strict=False)]
    points = [(x, y) for x, y in pairs if x is not None and y is not None]
    return CurveData(
        name=str(raw.get("name", "?")),
        x_label=str(raw.get("x_label", "")),
        x=[x for x, _ in points],
        y=[y for _, y in points],
        y_label=str(raw.get("y_label", "")),
    )


def _cost(raw: dict[str, Any]) -> dict[str, Any]:
    numbers = {k: n for k, v in raw.items() if (n := number(v)) is not None}
    layers = [
        {"name": str(layer.get("name", "?")), "density": number(layer.get("density"))}
        | {key: number(layer.get(key)) for key in ("kept", "nonzeros", "entries")}
        for layer in objects(raw.get("layers"))
    ]
    return numbers | {"layers": [layer for layer in layers if layer["density"] is not None]}


def read_examples(evaluation: Evaluation, notes: list[str]) -> Examples | None:
    """Read the fooled images beside an evaluation; a failure is noted and gives None."""
    return _read_images(evaluation, "example", notes)


def read_nearest(evaluation: Evaluation, measure: MeasureData, notes: list[str]) -> Examples | None:
    """Read the images that a measure found nearest to the boundary; a failure gives None."""
    if "nearest_clean" not in measure.arrays:
        return None
    return _read_images(evaluation, f"measure_{measure.position}_nearest", notes)


def _read_images(evaluation: Evaluation, prefix: str, notes: list[str]) -> Examples | None:
    path = evaluation.file.with_suffix(".npz")
    place = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        _note(notes, f"{place}: missing, so no example images are shown.")
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if f"{prefix}_clean" not in arrays:
                return None
            found = {
                key: arrays[f"{prefix}_{key}"].astype(int)
                for key in ("label", "clean_prediction", "adversarial_prediction")
            }
            found |= {k: _unit(arrays[f"{prefix}_{k}"]) for k in ("clean", "adversarial")}
            if f"{prefix}_distance" in arrays:
                found["distance"] = arrays[f"{prefix}_distance"].astype(float)
    except _UNREADABLE:
        _note(notes, f"{place}: not readable (half-written?), no example images.")
        return None
    if not _fit(found):
        _note(notes, f"{place}: example images have an unknown shape, left out.")
        return None
    return Examples(**found) if len(found["clean"]) else None


def _fit(found: dict[str, np.ndarray]) -> bool:
    """Say whether these are grey or colour images, before and after, with a row of facts each."""
    clean, facts = (
        found["clean"],
        [v for k, v in found.items() if k not in ("clean", "adversarial")],
    )
    if clean.ndim != 4 or clean.shape[1] not in (1, 3) or clean.shape != found["adversarial"].shape:
        return False
    return all(fact.shape == clean.shape[:1] for fact in facts)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


def _unit(images: np.ndarray) -> np.ndarray:
    scale = 255 if images.dtype == np.uint8 else 1
    return np.clip(images.astype(np.float32) / scale, 0, 1)


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _texts(value: Any) -> list[str] | None:
    return [str(item) for item in value] if isinstance(value, list) else None
