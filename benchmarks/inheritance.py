"""Print the inheritance runs on LeNet-5: who finds the mask, who trains it, what is inherited.

Usage, after `wiry train recipes/DATA-lenet5-inheritance.yaml --seeds ...` for both data sets:

    python benchmarks/inheritance.py runs
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

TICKETS = (
    # mask found by, trained by, stage on the ticket's own weights, stage on fresh weights
    ("natural", "natural", "natural-10", "natural-then-natural-reinit"),
    ("natural", "adversarial", "natural-then-adversarial", "natural-then-adversarial-reinit"),
    ("adversarial", "natural", "adversarial-then-natural", "adversarial-then-natural-reinit"),
    ("adversarial", "adversarial", "adversarial-10", "adversarial-then-adversarial-reinit"),
)
LARGE = (
    ("dense from scratch, 5 epochs (equal compute)", "dense-adversarial"),
    ("dense from scratch, 9 epochs (equal epochs)", "dense-adversarial-long"),
    ("inherits the narrow network (20 % of the weights), 4 epochs", "inverse-narrow"),
    ("inherits the ticket (10 %), 4 epochs", "inverse-ticket"),
    ("the narrow network itself", "narrow"),
)

Values = dict[str, dict[str, list[float]]]


def read(runs: Path, data: str) -> Values:
    """Return clean, robust and mask density in percent by stage."""
    found: Values = defaultdict(lambda: defaultdict(list))
    for root in sorted(runs.glob(f"{data}-lenet5-inheritance-*")):
        for path in root.glob("stages/*/eval/test-*.json"):
            record = json.loads(path.read_text())
            values = found[path.parents[1].name.partition("-")[2]]
            values["clean"].append(100 * record["clean_accuracy"])
            values["robust"].append(100 * record["robust_accuracy"])
            values["density"].append(100 * record["cost"]["mask_density"])
    return found


def cell(values: dict[str, list[float]]) -> str:
    """Write clean / robust, with deviations where there are several seeds."""
    parts = []
    for key in ("clean", "robust"):
        if not values.get(key):
            return "-"
        deviation = f" ± {statistics.stdev(values[key]):.1f}" if len(values[key]) > 1 else ""
        parts.append(f"{statistics.fmean(values[key]):.1f}{deviation}")
    return " / ".join(parts)


def report(runs: Path, data: str) -> list[str]:
    """Return the Markdown of one data set."""
    found = read(runs, data)
    lines = [f"### {data} (seeds: {len(found['dense-adversarial']['clean'])})", ""]
    lines += [
        "| mask found by | trained by | ticket's weights | fresh weights |",
        "|---|---|---:|---:|",
    ]
    for by, then, own, fresh in TICKETS:
        lines.append(f"| {by} | {then} | {cell(found[own])} | {cell(found[fresh])} |")
    lines += ["", "| large network, adversarial training | clean / robust |", "|---|---:|"]
    lines += [f"| {name} | {cell(found[stage])} |" for name, stage in LARGE]
    lines += [f"| dense, natural training | {cell(found['dense-natural'])} |", ""]
    return lines


if __name__ == "__main__":
    for name in ("mnist", "fashion-mnist"):
        print("\n".join(report(Path(sys.argv[1]), name)))
