"""Train and measure the inverted U of Guo et al. 2018 on MNIST: sparsity against robustness.

LeNet-300-100, natural training. Weights: a dense network, then one stage for each density, all of
the same length and from the same dense weights, density 1 among them, so that no point has trained
for longer than another. Activations: the same two stages with k winners take all, with a shifted
rectifier, and with an L1 penalty on activity whose weight is searched for.

    python benchmarks/inverted_u.py train OUT [--sparsifier surgery] [--seeds 0,1,2] [--only KIND]
    python benchmarks/inverted_u.py measure OUT
    python benchmarks/inverted_u.py judge OUT
    python benchmarks/inverted_u_report.py OUT docs/images/guo-mnist.png
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.attacks.presets import autoattack
from wiry.attacks.rfgsm import RFGSM
from wiry.attacks.square import Square
from wiry.core.mask import Mask, density
from wiry.core.recipe import Recipe
from wiry.core.recipe_file import parse_recipe
from wiry.core.rng import stream
from wiry.core.run import Run
from wiry.evaluation.activity import activation_sparsity
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.distance import boundary_distances
from wiry.evaluation.judge import adversarials, frozen, predict
from wiry.train.prepare import dataset_of
from wiry.train.stages import load_stage, train

DENSE_EPOCHS, EPOCHS = 8, 6
DENSITIES = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.008, 0.005)
ACTIVE = {"k-wta": (0.5, 0.25, 0.12, 0.06, 0.03), "shifted-relu": (0.25, 0.1, 0.03)}
L1_TARGETS = (0.12, 0.06)  # shares of active units that the penalty is to reach
EPS_ONE_STEP = (0.05, 0.1, 0.15, 0.2, 0.3)
EPS_PGD = (0.02, 0.05, 0.1)
NUM_SLOW = 1000  # test images for PGD and DeepFool; the one-step attacks take all
JUDGED = ("weights-1", "weights-0.12", "weights-0.005", "k-wta-0.25", "k-wta-0.03")
NUM_JUDGED, EPS_JUDGED = 200, 0.05  # AutoAttack, on some of the networks
NUM_SQUARE, EPS_SQUARE = 300, 0.05  # the attack without gradients, against masking


def stage(name: str, epochs: int, decay: str, **fields: Any) -> dict[str, Any]:
    """Return a stage of natural training with Adam."""
    optimizer = {"name": "adam", "lr": 1e-3, "decay": decay}
    return {"name": name, "epochs": epochs, "batch_size": 100, "optimizer": optimizer, **fields}


def recipe(name: str, seed: int, stages: list[dict], activation: Any = "relu") -> Recipe:
    """Return a recipe of LeNet-300-100 on MNIST in [0, 1], not standardised."""
    return parse_recipe(
        {
            "name": name,
            "seed": seed,
            "data": {"name": "mnist", "num_validation": 5000},
            "model": {"name": "mlp", "normalize": False, "activation": activation},
            "stages": stages,
            "monitor": {"num_samples": 1000},
        }
    )


def weight_recipe(seed: int, sparsifier: str) -> Recipe:
    """Return dense training and a stage from its weights for each density."""
    stages = [stage("dense", DENSE_EPOCHS, "constant")]
    for share in DENSITIES:
        method: Any = {"name": sparsifier, "sparsity": round(1 - share, 12)}
        start = {"weights": "dense"}
        how = {"start": start, "sparsifier": "fixed" if share == 1 else method}
        stages.append(stage(f"weights-{share:g}", EPOCHS, "linear", **how))
    return recipe(f"inverted-u-{sparsifier}", seed, stages)


def activity_recipe(kind: str, value: float, seed: int) -> Recipe:
    """Return the two stages with sparse activations; `value` is a density or the L1 weight."""
    extra: dict[str, Any] = {}
    if kind == "l1":
        extra = {"objective": {"name": "activity", "weight": value}}
    stages = [
        stage("dense", DENSE_EPOCHS, "constant", **extra),
        stage(f"{kind}-{value:g}", EPOCHS, "linear", start={"weights": "dense"}, **extra),
    ]
    activation = "relu" if kind == "l1" else {"name": kind, "density": value}
    return recipe(f"inverted-u-{kind}-{value:g}", seed, stages, activation)


def search_weight(target: float, out: Path) -> float:
    """Return the L1 weight whose network has about `target` active units: bisection of its log."""
    low, high = 1e-3, 10.0
    for _ in range(5):
        weight = float(f"{math.sqrt(low * high):.3g}")
        extra = {"objective": {"name": "activity", "weight": weight}}
        trial = recipe("inverted-u-search", 0, [stage(f"l1-{weight:g}", 3, "linear", **extra)])
        run = train(trial, out)
        model, _ = load_stage(run, run.stages[-1])
        images = dataset_of(trial).validation_x[:NUM_SLOW]
        active = 1 - activation_sparsity(model, images)["sparsity"]
        print(f"L1 weight {weight:g}: {active:.3f} active, target {target}", flush=True)
        low, high = (weight, high) if active > target else (low, weight)
    return weight


def train_all(out: Path, sparsifier: str, seeds: list[int], only: str) -> None:
    """Train whatever is not trained yet."""
    found: list[tuple[str, float]] = [(kind, v) for kind, vs in ACTIVE.items() for v in vs]
    if only in ("", "l1"):
        found += [("l1", search_weight(target, out)) for target in L1_TARGETS]
    for seed in seeds:
        for kind, value in found:
            if only in ("", kind):
                train(activity_recipe(kind, value, seed), out)
        if only in ("", "weights"):
            train(weight_recipe(seed, sparsifier), out)
        print(f"seed {seed} is trained", flush=True)


def measure(model: nn.Module, mask: Mask, run: Run) -> tuple[dict[str, float], dict[str, Any]]:
    """Return what is measured of one network: numbers, and values by image."""
    x, y = dataset_of(run.recipe).split("test")
    few_x, few_y = x[:NUM_SLOW], y[:NUM_SLOW]
    attacks: dict[str, tuple[Any, int]] = {}
    for eps in EPS_ONE_STEP:
        attacks |= {f"fgsm-{eps:g}": (FGSM(eps), len(x)), f"rfgsm-{eps:g}": (RFGSM(eps), len(x))}
    for eps in EPS_PGD:
        attacks[f"pgd-{eps:g}"] = (PGD(eps, steps=20, restarts=2, drop_fooled=True), NUM_SLOW)
    attacks[f"square-{EPS_SQUARE:g}"] = (Square(EPS_SQUARE, num_queries=500), NUM_SQUARE)
    with frozen(model):
        clean = predict(model, x) == y
        values: dict[str, Any] = {"clean": clean.numpy()}
        for name, (attack, num) in attacks.items():
            found = adversarials(model, attack, x[:num], y[:num], stream(0, name))
            values[name] = (clean[:num] & (predict(model, found) == y[:num])).numpy()
        far = boundary_distances(model, few_x, few_y)
    values["rho_2"] = (far.distance / far.length).numpy()
    values["r_2"] = (far.distance * far.correct).numpy()
    numbers = {
        "weight_density": density(model, mask),
        "active": 1 - activation_sparsity(model, few_x)["sparsity"],
        "crossed": float(far.crossed.float().mean()),
    }
    return numbers, values


def measure_all(out: Path) -> None:
    """Measure the last network of every activity run and all but the first of the weight runs."""
    folder = out / "measures"
    folder.mkdir(exist_ok=True)
    for root in sorted(out.glob("inverted-u-*")):
        run = Run.open(root)
        for trained in run.stages[1:]:
            path = folder / f"{root.name}-{trained.name}.npz"
            if path.exists() or not run.is_done(trained):
                continue
            numbers, values = measure(*load_stage(run, trained), run)
            method = run.recipe.name.removeprefix("inverted-u-")
            told = {"method": method, "stage": trained.name, "seed": run.recipe.seed, **numbers}
            np.savez_compressed(path, **values, told=json.dumps(told))
            shown = {k: round(float(v.mean()), 4) for k, v in values.items()}
            print(json.dumps(told | shown), flush=True)


def judge_all(out: Path) -> None:
    """Print how some of the networks stand AutoAttack, as Markdown."""
    print("| stage | seed | clean | " + " | ".join(("APGD-CE", "APGD-T", "Square")), end="")
    print(" | worst case |\n|---|" + "---:|" * 6)
    for root in sorted(out.glob("inverted-u-*")):
        run = Run.open(root)
        for trained in (t for t in run.stages if t.name in JUDGED and run.is_done(t)):
            x, y = (half[:NUM_JUDGED] for half in dataset_of(run.recipe).split("test"))
            table = attack_images(load_stage(run, trained)[0], x, y, autoattack(EPS_JUDGED))
            shares = [table.clean_correct, *table.by_attack.values(), table.robust]
            cells = [trained.name, str(run.recipe.seed)]
            print("| " + " | ".join(cells + [f"{100 * s.mean():.1f}" for s in shares]) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["train", "measure", "judge"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sparsifier", default="surgery")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="weights, k-wta, shifted-relu or l1")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "train":
        seeds = [int(seed) for seed in given.seeds.split(",")]
        train_all(given.out, given.sparsifier, seeds, given.only)
    elif given.what == "measure":
        measure_all(given.out)
    else:
        judge_all(given.out)
