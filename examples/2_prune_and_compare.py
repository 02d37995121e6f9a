"""Prune the dense network to a quarter of its weights, train on, and compare.

New here: a second stage that starts from the first one's weights, and a sparsifier. Run:
`python examples/2_prune_and_compare.py [EPOCHS]`; results go to `runs/`.
"""

import sys
from pathlib import Path

import wiry

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 15

training = {
    "epochs": EPOCHS,
    "batch_size": 64,
    "objective": {"name": "adversarial", "attack": {"name": "pgd", "eps": 0.15, "steps": 7}},
    "optimizer": {"name": "adam", "lr": 0.004, "decay": "cosine"},
}
recipe = wiry.parse_recipe(
    {
        "name": "example-prune",
        "data": "digits",
        "model": {"name": "mlp", "widths": [64]},
        "stages": [
            {"name": "dense", **training},  # equal to example 1: linked, not trained again
            {
                "name": "sparse",
                **training,
                "start": {"weights": "dense"},
                "sparsifier": {"name": "magnitude", "sparsity": 0.75},
            },
        ],
    }
)
run = wiry.train_recipe(recipe, Path("runs"))
dataset = wiry.build_dataset("digits")
x, y = dataset.split("test")
for stage in ("dense", "sparse"):
    model, mask = wiry.load_stage(run, stage)
    found = wiry.evaluate(model, x, y, [wiry.PGD(eps=0.15, steps=20)])
    counts = wiry.cost(model, mask, input_shape=dataset.input_shape)
    print(
        f"{stage:7} {counts['nonzeros']:5,} weights, clean {found.clean_accuracy:.1%}, "
        f"robust {found.robust_accuracy:.1%}"
    )
