"""The last word on a comparison's winners: all of AutoAttack, where every other row is screened."""

import statistics
from collections.abc import Callable
from typing import Any

from wiry.evaluation.interval import mean_interval
from wiry.sweep.compare_settings import DENSE

Judge = Callable[[dict[str, Any]], dict[str, Any]]
"""From a row of the comparison to the record of AutoAttack on its network."""


def finalist_keys(outcome: dict[str, Any]) -> list[tuple[str, float]]:
    """Return method and sparsity of the dense network and of each sparsity's winner."""
    winners = [(c["winner"], c["sparsity"]) for c in outcome["columns"] if c["winner"]]
    return [(DENSE, 0.0), *winners]


def judge_finalists(outcome: dict[str, Any], judge: Judge) -> list[dict[str, Any]]:
    """Return a row for each finalist: screened and under AutoAttack, means over the seeds."""
    found = []
    for method, sparsity in finalist_keys(outcome):
        rows = [
            row
            for row in outcome["rows"]
            if (row["method"], row["sparsity"], row["status"]) == (method, sparsity, "done")
        ]
        records = [judge(row) for row in rows]
        values = [record["robust_accuracy"] for record in records]
        found.append(
            {
                "method": method,
                "sparsity": sparsity,
                "num_seeds": len(rows),
                "screened_accuracy": statistics.fmean(row["robust_accuracy"] for row in rows),
                "robust_accuracy": statistics.fmean(values),
                "robust_interval": list(mean_interval(values, records[0]["num_samples"])),
                "protocol": records[0]["protocol"] or "all attacks",
            }
        )
    return found
