"""Print a finished comparison (`compare.json`) as Markdown, methods in the order of mean rank.

python benchmarks/methods_table.py docs/results/methods.json
"""

import json
import sys
from pathlib import Path
from typing import Any


def percent(cell: dict[str, Any] | None, what: str) -> str:
    """Write mean and deviation of a share, with a note where the cell is not ranked."""
    if cell is None or cell.get(f"{what}_accuracy") is None:
        return "refused" if cell and cell.get("reasons") else "-"
    text = f"{100 * cell[f'{what}_accuracy']:.1f}"
    if cell.get(f"{what}_deviation") is not None:
        text += f" ± {100 * cell[f'{what}_deviation']:.1f}"
    return text if cell.get("ranked") else f"({text})"


def table(data: dict[str, Any]) -> list[str]:
    """Return the rows: mean rank, then robust and clean accuracy at each sparsity, then cost."""
    sparsities = data["sparsities"]
    cells = {(c["method"], c["sparsity"]): c for c in data["cells"]}
    heads = ["method", "mean rank"]
    heads += [f"robust at {100 * s:g} %" for s in sparsities]
    heads += [f"clean at {100 * s:g} %" for s in sparsities]
    heads += ["training at the middle sparsity, GFLOP", "of it with zeros left out", "seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    ranks = data["mean_ranks"]
    for method in sorted(data["methods"], key=lambda m: (ranks.get(m) or 99, m)):
        mine = [cells.get((method, s)) for s in sparsities]
        rank = ranks.get(method)
        row = [f"[{method}](../methods/{method}.md)", "-" if rank is None else f"{rank:.1f}"]
        row += [percent(c, "robust") for c in mine]
        row += [percent(c, "clean") for c in mine]
        last = mine[min(1, len(mine) - 1)] or {}
        cost = [last.get(k) for k in ("flops_dense", "flops_sparse", "seconds")]
        scales, forms = (1e-9, 1e-9, 1), ("{:.0f}", "{:.0f}", "{:.1f}")
        row += [
            "-" if value is None else form.format(value * scale)
            for value, scale, form in zip(cost, scales, forms, strict=True)
        ]
        lines.append("| " + " | ".join(row) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
