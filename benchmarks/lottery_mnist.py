"""Print the short lottery runs on MNIST beside Table 1 of Cosentino et al. 2019, as Markdown.

Usage, after `wiry train recipes/mnist-mlp-lottery-NAME-short.yaml --seeds 0,1,2` for the four NAMEs
(fgsm-init, fgsm-dense, pgd-init, pgd-dense):

    python benchmarks/lottery_mnist.py runs
"""

import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

STAGES = ("dense", "left-51.3", "left-16.9", "left-8.7", "left-3.6", "left-1.8")
# Table 1, adversarially trained networks: (natural, attacked) in percent at logged iteration 30,000
PAPER = {
    "fgsm": ((98.25, 94.30), (98.13, 97.09), (97.90, 97.46), (97.54, 97.02), (97.00, 95.23),
             (95.49, 90.15)),
    "pgd": ((98.38, 45.32), (98.07, 60.14), (97.73, 59.91), (97.20, 57.60), (95.58, 48.81),
            (92.67, 38.23)),
}  # fmt: skip

Values = dict[str, dict[str, list[float]]]


def read(runs: Path) -> dict[tuple[str, str], Values]:
    """Return the accuracies in percent by (attack, rewind), stage and what was measured."""
    found: dict[tuple[str, str], Values] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for root in sorted(runs.glob("mnist-mlp-lottery-*-short-*")):
        attack, rewind = re.findall(r"lottery-(\w+)-(\w+)-short", root.name)[0]
        for position, stage in enumerate(STAGES, start=1):
            for path in (root / "stages" / f"{position}-{stage}" / "eval").glob("test-*.json"):
                record = json.loads(path.read_text())
                values = found[attack, rewind][stage]
                values["density"].append(100 * record["cost"]["mask_density"])
                values["clean"].append(100 * record["clean_accuracy"])
                for name, row in zip(("as trained", "true label"), record["attacks"], strict=True):
                    values[name].append(100 * row["accuracy"])
    return found


def cell(values: list[float]) -> str:
    """Write mean and sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def table(attack: str, found: dict[tuple[str, str], Values]) -> list[str]:
    """Return the Markdown rows of one training attack."""
    head = ["left %", "paper natural", "paper attacked"]
    for rewind in ("init", "dense"):
        head += [f"{rewind}: natural", f"{rewind}: attacked", f"{rewind}: PGD-10, true label"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    for stage, (natural, attacked) in zip(STAGES, PAPER[attack], strict=True):
        row = [f"{natural:.2f}", f"{attacked:.2f}"]
        density = ""
        for rewind in ("init", "dense"):
            values = found[attack, rewind][stage]
            density = f"{statistics.fmean(values['density']):.1f}" if values else "-"
            row += [
                cell(values[k]) if values else "-" for k in ("clean", "as trained", "true label")
            ]
        lines.append("| " + " | ".join([density, *row]) + " |")
    return lines


if __name__ == "__main__":
    results = read(Path(sys.argv[1]))
    for name in ("fgsm", "pgd"):
        counts = {r: len(results[name, r]["dense"]["clean"]) for r in ("init", "dense")}
        print(f"\n### Trained against {name.upper()} (runs: {counts})\n")
        print("\n".join(table(name, results)))
