"""Write a recipe in Python, save it as YAML, run it, and write its page.

New here: `levels` (one stage repeated), rewinding (`dense@0it`), a control with a shuffled mask,
evaluation as part of the recipe. Run: `python examples/3_lottery_recipe.py [EPOCHS]`.
"""

import sys
from pathlib import Path

import wiry
from wiry.core.recipe_file import dump_recipe
from wiry.sweep.trial import Measurement, measure_stage

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 15

attack = {"name": "pgd", "eps": 0.15, "steps": 7}
training = {
    "epochs": EPOCHS,
    "batch_size": 64,
    "objective": {"name": "adversarial", "attack": attack},
    "optimizer": {"name": "adam", "lr": 0.004, "decay": "cosine"},
}
recipe = wiry.parse_recipe(
    {
        "name": "example-lottery",
        "data": "digits",
        "model": {"name": "mlp", "widths": [64]},
        "stages": [
            {"name": "dense", **training},
            {
                "name": "level",  # becomes level-1 and level-2, each half of what is left
                "levels": 2,
                **training,
                "start": {"weights": "dense@0it", "mask": "previous", "score": "previous"},
                "sparsifier": {"name": "prune-rate", "rate": 0.5},
            },
            {
                "name": "control",  # the same counts per layer, at random places
                **training,
                "start": {"weights": "dense@0it", "mask": "level-2:shuffled"},
            },
        ],
        "evaluation": {"attacks": [{**attack, "steps": 20}]},
    }
)
Path("lottery.yaml").write_text(dump_recipe(recipe))  # `wiry train lottery.yaml` does the same
run = wiry.train_recipe(recipe, Path("runs"))
for stage in run.stages:
    record = measure_stage(run, Measurement(stage.name, "test", recipe.evaluation.attacks))
    low, high = record["robust_interval"]
    print(
        f"{stage.name:8} density {record['cost']['mask_density']:.1%}, clean "
        f"{record['clean_accuracy']:.1%}, robust {record['robust_accuracy']:.1%} "
        f"({low:.1%} to {high:.1%})"
    )
print(wiry.write_report(run.root))
