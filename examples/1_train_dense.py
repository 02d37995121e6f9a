"""Train a dense network that withstands attacks, and attack it.

A recipe is plain data. Run: `python examples/1_train_dense.py [EPOCHS]`; results go to `runs/`.
"""

import sys
from pathlib import Path

import wiry

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 15

recipe = wiry.parse_recipe(
    {
        "name": "example-dense",
        "data": "digits",
        "model": {"name": "mlp", "widths": [64]},
        "stages": [
            {
                "name": "dense",
                "epochs": EPOCHS,
                "batch_size": 64,
                "objective": {
                    "name": "adversarial",
                    "attack": {"name": "pgd", "eps": 0.15, "steps": 7},
                },
                "optimizer": {"name": "adam", "lr": 0.004, "decay": "cosine"},
            }
        ],
    }
)
run = wiry.train_recipe(recipe, Path("runs"))  # a second call finds it done
model, mask = wiry.load_stage(run, "dense")

x, y = wiry.build_dataset("digits").split("test")
found = wiry.evaluate(model, x, y, [wiry.PGD(eps=0.15, steps=20)])
print(f"{run.root}: clean {found.clean_accuracy:.1%}, robust {found.robust_accuracy:.1%}")
