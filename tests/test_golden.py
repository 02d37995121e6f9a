"""Losses of twenty training steps, pinned: a refactoring leaves them as they are.

On the CPU with one thread and a fixed seed. Other processors differ in the last bits, hence the
tolerance. `WIRY_WRITE_GOLDEN=1 pytest tests/test_golden.py` writes the file anew, on purpose only.
"""

import json
import os
from pathlib import Path

import pytest

from wiry.core.recipe_file import parse_recipe
from wiry.core.run import read_metrics
from wiry.train.stages import train

FILE = Path(__file__).parent / "golden" / "losses.json"
VARIABLE = "WIRY_WRITE_GOLDEN"
ATTACK = {"name": "pgd", "norm": "l2", "eps": 0.5, "steps": 3}  # smooth: no signs that can flip
OBJECTIVES = {
    "natural": {"name": "natural", "label_smoothing": 0.1},
    "adversarial": {"name": "adversarial", "attack": ATTACK, "natural_weight": 0.5},
    "trades": {"name": "trades", "attack": ATTACK | {"loss": "kl"}},
    "mart": {"name": "mart", "attack": ATTACK},
    "free": {"name": "free", "eps": 0.02, "replays": 2},
}
SLOW = {"name": "sgd", "lr": 0.003}  # Adam's first steps are signs, which amplify last bits
SPARSIFIERS = {
    "fixed": "fixed",
    "magnitude": {"name": "magnitude", "sparsity": 0.5},
    "gradual": {"name": "gradual", "sparsity": 0.8, "num_updates": 4},
    "prune-rate": {"name": "prune-rate", "rate": 0.3},
}
CASES = {
    f"cnn-small {objective} {sparsifier}": ("cnn-small", objective, sparsifier, SLOW)
    for objective in ("natural", "adversarial", "trades", "free")
    for sparsifier in ("fixed", "magnitude", "gradual")
} | {
    "mlp natural gradual adam": ("mlp", "natural", "gradual", "adam"),
    "mlp mart prune-rate sgd": ("mlp", "mart", "prune-rate", {"name": "sgd", "lr": 0.02}),
    "resnet18 adversarial magnitude sgd": (
        {"name": "resnet18", "width": 4},
        "adversarial",
        "magnitude",
        {"name": "sgd", "lr": 0.0003, "decay": "step"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _written(tmp_path_factory):
    """Write the file anew if the variable asks for it."""
    if os.environ.get(VARIABLE) == "1":
        losses = {case: losses_of(case, tmp_path_factory.mktemp("golden")) for case in CASES}
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(losses, indent=1) + "\n")


def losses_of(case, out):
    """Train for twenty optimizer steps on batches of 32; return the training loss of each batch."""
    model, objective, sparsifier, optimizer = CASES[case]
    num_batches = 10 if objective == "free" else 20
    stage = {
        "name": "dense",
        "epochs": 1,
        "batch_size": 32,
        "objective": OBJECTIVES[objective],
        "sparsifier": SPARSIFIERS[sparsifier],
        "optimizer": optimizer,
    }
    recipe = parse_recipe(
        {
            "name": "golden",
            "seed": 5,
            "data": {"name": "digits", "num_train": 32 * num_batches},
            "model": model,
            "stages": [stage],
            "monitor": {"every": "1it", "num_samples": 10},
        }
    )
    run = train(recipe, out)
    losses = [row["train_loss"] for row in read_metrics(run.stage_dir("dense") / "metrics.jsonl")]
    assert len(losses) == num_batches
    return losses


@pytest.mark.parametrize("case", CASES)
def test_the_losses_of_twenty_steps_are_as_pinned(case, tmp_path):
    losses = losses_of(case, tmp_path)
    assert losses == pytest.approx(json.loads(FILE.read_text())[case], rel=1e-4)


def test_every_pinned_case_is_run():
    assert list(json.loads(FILE.read_text())) == list(CASES)
