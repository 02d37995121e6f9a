"""Careful reading: JSON of any state into values that can be shown. Imports no torch.

Nothing here knows what the files are about; that is `collect` and `collect_evaluation`.
"""

import json
import math
from pathlib import Path
from typing import Any

from wiry.report.evaluations import Interval


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


def text_of(value: Any) -> str | None:
    """Return a value as text, None as it is."""
    return None if value is None else str(value)
