"""What a per-sample table says in shares and intervals, as the plain data that the record holds.

Pure functions of the table's arrays; no model, no file.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wiry.evaluation.interval import wilson

if TYPE_CHECKING:
    from wiry.evaluation.table import Table


def summarize(
    table: "Table", *, split: str, class_names: Sequence[str], seconds: float | None
) -> dict[str, Any]:
    """Return the evaluation as plain data; see `Table.summary`."""
    assert int(table.label.max()) < len(class_names), "a label has no class name"
    attacked = bool(table.by_attack)
    norms = sorted({attack["norm"] for attack in table.attacks})
    clean_accuracy, clean_interval = share(table.clean_correct)
    robust_accuracy, robust_interval = share(table.robust) if attacked else (None, None)
    return {
        "split": split,
        "num_samples": len(table.index),
        "seed": table.seed,
        "clean_accuracy": clean_accuracy,
        "clean_interval": clean_interval,
        "robust_accuracy": robust_accuracy,
        "robust_interval": robust_interval,
        "eps": max(attack["eps"] for attack in table.attacks) if len(norms) == 1 else None,
        "norm": "+".join(norms) or None,
        "attack": title(table) if attacked else None,
        "attacks": _attack_rows(table),
        "cascade": table.cascade,
        "protocol": table.protocol,
        "class_names": list(class_names),
        "per_class": _class_rows(table, class_names),
        "certified": _proven(table),
        "seconds": seconds,
    }


def share(correct: np.ndarray) -> tuple[float | None, list[float] | None]:
    """Return the share of true entries and its Wilson interval; nothing for no entries."""
    if not len(correct):
        return None, None
    num_correct = int(correct.sum())
    return num_correct / len(correct), list(wilson(num_correct, len(correct)))


def title(table: "Table") -> str:
    """Return what the robust accuracy is the worst case of."""
    names, plural = list(table.by_attack), "s" if len(table.by_attack) > 1 else ""
    how = ", each run on what the earlier ones left" if table.cascade and plural else ""
    text = f"worst case of {len(names)} attack{plural}{how}: {', '.join(names)}"
    return f"{table.protocol}: {text}" if table.protocol else text


def _proven(table: "Table") -> dict[str, Any] | None:
    if table.proven is None:
        return None
    return {"method": "ibp", "num": int((table.proven & table.clean_correct).sum())}


def _attack_rows(table: "Table") -> list[dict[str, Any]]:
    rows = []
    for position, (name, attack) in enumerate(zip(table.by_attack, table.attacks, strict=True)):
        accuracy, interval = share(table.by_attack[name])
        answer = {"accuracy": accuracy, "interval": interval, "cumulative": table.cascade}
        effort = table.efforts[position]._asdict() if table.efforts else {}
        rows.append({"attack": name, **attack, **answer, **effort})
    return rows


def _class_rows(table: "Table", class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows, robust = [], table.robust
    for label, name in enumerate(class_names):
        members = table.label == label
        row: dict[str, Any] = {"name": name, "num": int(members.sum())}
        row["clean"] = share(table.clean_correct[members])[0]
        row["robust"] = share(robust[members])[0] if table.by_attack else None
        rows.append(row)
    return rows
