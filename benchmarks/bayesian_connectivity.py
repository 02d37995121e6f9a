"""Train the short CIFAR-10 recipe of Bayesian connectivity and print budget, rewiring and accuracy.

python benchmarks/bayesian_connectivity.py OUT 0 1      # seeds; about 8 CPU-minutes each
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import torch

from wiry.core.mask import Mask
from wiry.core.recipe import expand
from wiry.core.recipe_file import load_recipe
from wiry.sweep.trial import Measurement, Trial, run_trial
from wiry.train.stages import Session

RECIPE = Path(__file__).parents[1] / "recipes/cifar10-cnn-small-bayesian-connectivity-short.yaml"


class Links:
    """An observer that counts links, new ones and the survivors among them, step by step."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.before = path, [], {}

    def __call__(self, training) -> None:
        if not training.name.startswith("bayesian"):
            return
        state, name = training.state, training.name
        mask = {n: value.clone() for n, value in state.mask.items()}
        num_sampled = int(state.tensors["num_sampled"])
        if name in self.before:
            older, new, sampled = self.before[name]
            arrived = {n: mask[n] & ~older[n] for n in mask}
            survived = sum(int((new[n] & mask[n]).sum()) for n in mask) if new else None
            born = sum(int(v.sum()) for v in new.values()) if new else None
            row = [name, state.step, Mask(mask).num_kept(), num_sampled - sampled, born, survived]
            self.rows.append(row)
            self.before[name] = (mask, arrived, num_sampled)
        else:
            self.before[name] = (mask, {}, num_sampled)
        if training.progress.num_batches == training.num_batches:
            self.path.write_text(json.dumps(self.rows))


def train(out: Path, seed: int) -> None:
    """Train and evaluate one seed; a second call finds it done."""
    torch.set_num_threads(1)
    recipe = load_recipe(RECIPE, [f"seed={seed}"])
    wanted = recipe.evaluation
    measurements = tuple(
        Measurement(stage.name, wanted.split, wanted.attacks, wanted.num_samples)
        for stage in expand(recipe)
    )
    trial = Trial(recipe.model_dump(exclude_defaults=True), out, out, measurements)
    out.mkdir(parents=True, exist_ok=True)
    run_trial(trial, Session(observers=(Links(out / f"links-{seed}.json"),)))


def rewiring(out: Path) -> list[str]:
    """Return the Markdown of budget and rewiring over the training."""
    lines = [
        "| stage | steps | links, least to most | new links a step: first, middle, last tenth |"
    ]
    lines[0] += " survive a step |"
    lines.append("|---|---:|---:|---:|---:|")
    for path in sorted(out.glob("links-*.json")):
        by_stage = defaultdict(list)
        for row in json.loads(path.read_text()):
            by_stage[row[0]].append(row)
        for stage, rows in by_stage.items():
            tenth = max(1, len(rows) // 10)
            places = (rows[:tenth], rows[len(rows) // 2 - tenth // 2 :][:tenth], rows[-tenth:])
            new = ", ".join(f"{statistics.fmean(r[3] for r in part):.1f}" for part in places)
            born = sum(r[4] or 0 for r in rows)
            lived = sum(r[5] or 0 for r in rows)
            counts = [r[2] for r in rows]
            seed = path.stem.partition("-")[2]
            lines.append(
                f"| {stage}, seed {seed} | {rows[-1][1]} | {min(counts):,} to {max(counts):,} | "
                f"{new} | {100 * lived / max(1, born):.0f} % of {born:,} |"
            )
    return lines


def accuracy(out: Path) -> list[str]:
    """Return the Markdown of clean and robust accuracy by stage."""
    found = defaultdict(list)
    for path in sorted(out.glob("cifar10-cnn-small-*/stages/*/eval/test-*.json")):
        record = json.loads(path.read_text())
        values = (record["clean_accuracy"], record["robust_accuracy"])
        density = record["cost"]["mask_density"]
        found[path.parents[1].name].append((*values, density))
    lines = ["| stage | weights % | clean | PGD-50, 3 restarts |", "|---|---:|---:|---:|"]
    for stage in sorted(found, key=lambda name: int(name.partition("-")[0])):
        clean, robust, density = zip(*found[stage], strict=True)
        cells = [
            f"{100 * statistics.fmean(v):.1f}"
            + (f" ± {100 * statistics.stdev(v):.1f}" if len(v) > 1 else "")
            for v in (clean, robust)
        ]
        share = 100 * statistics.fmean(density)
        lines.append(f"| {stage.partition('-')[2]} | {share:.0f} | {cells[0]} | {cells[1]} |")
    return lines


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for number in sys.argv[2:]:
        train(root, int(number))
    print("\n".join(["", *rewiring(root), "", *accuracy(root)]))
