"""Reads an evaluation's folder: one evaluation, and what lies beside it. Imports no torch."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.report.collect_evaluation import BESIDE, read_evaluation
from wiry.report.evaluations import Evaluation
from wiry.report.reading import read_object, text_of

TARGET = "target.json"
"""The file that says which network and which images were judged."""

_NAME = re.compile(r"evaluation-(.+)-[0-9a-f]{8}\Z")
_LARGEST_CARD = 64_000  # bytes: what a reader may want to read


@dataclass(frozen=True)
class FolderData:
    """An evaluation's folder: the network's name, what was judged, cards by file name."""

    root: Path
    name: str
    data: str
    evaluation: Evaluation
    target: dict[str, Any]
    cards: dict[str, str]
    notes: list[str]


def is_evaluation(root: Path) -> bool:
    """Say whether a directory holds an evaluation and is no run."""
    is_run = (root / "recipe.yaml").is_file() or (root / "stages").is_dir()
    return not is_run and bool(_records(root))


def _records(root: Path) -> list[Path]:
    """Return the JSON files with a table beside them, else `evaluation.json` alone."""
    paired = [path for path in sorted(root.glob("*.json")) if path.with_suffix(".npz").is_file()]
    return paired or [path for path in (root / "evaluation.json",) if path.is_file()]


def collect_folder(root: Path) -> FolderData:
    """Read the folder of one evaluation.

    Raises:
        UserError: if there are several, or the one cannot be read.
    """
    root = Path(root)
    records = _records(root)
    if len(records) > 1:
        names = ", ".join(path.name for path in records)
        raise UserError(
            f"{str(root)!r} holds {len(records)} evaluations ({names}); a page is about one: put "
            "each with its .npz into a folder of its own"
        )
    (path,) = records
    notes: list[str] = []
    evaluation = read_evaluation(path, notes, root)
    if evaluation is None:
        raise UserError(
            f"{str(path)!r} holds no evaluation that can be read ({' '.join(notes)}); delete it "
            "and evaluate again"
        )
    is_told = (root / TARGET).is_file()
    target = read_object(root / TARGET, notes, root) if is_told else {}
    return FolderData(
        root=root,
        name=_network(root),
        data=text_of(target.get("dataset")) or "",
        evaluation=evaluation,
        target=target,
        cards=_cards(root, path, notes),
        notes=notes,
    )


def _network(root: Path) -> str:
    """Return the network's name, which is in the folder's name."""
    place = root.resolve().name
    match = _NAME.match(place)
    return match.group(1) if match else place


def _cards(root: Path, record: Path, notes: list[str]) -> dict[str, str]:
    """Return the other JSON files, such as a benchmark's card, set out to be read."""
    found = {}
    for path in sorted(root.glob("*.json")):
        if path == record or path.name in (*BESIDE, TARGET):
            continue
        if path.stat().st_size > _LARGEST_CARD:
            notes.append(f"{path.name}: too long to be shown.")
        elif data := read_object(path, notes, root):
            found[path.name] = json.dumps(data, indent=2, ensure_ascii=False)
    return found
