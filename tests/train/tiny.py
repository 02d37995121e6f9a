"""A recipe that trains in a tenth of a second, and what identifies its result."""

import hashlib

from wiry.core.recipe_file import parse_recipe
from wiry.core.run import read_metrics


def tiny_recipe(
    *,
    stages=None,
    sparsifier="fixed",
    objective="natural",
    model=None,
    epochs=2,
    seed=0,
    batch_size=300,
):
    """Return a recipe on the digits with a network of 16 hidden units (3 batches an epoch)."""
    stages = stages or [
        {"name": "dense", "epochs": epochs, "sparsifier": sparsifier, "objective": objective}
    ]
    return parse_recipe(
        {
            "name": "tiny",
            "data": "digits",
            "seed": seed,
            "model": model or {"name": "mlp", "widths": [16]},
            "stages": [{"batch_size": batch_size, **stage} for stage in stages],
            "monitor": {"num_samples": 50},
        }
    )


def artifacts(run):
    """Return checksums of every stage's tensors and its metrics without the times."""
    found = {}
    for stage in run.stages:
        folder = run.stage_dir(stage)
        for path in sorted(folder.rglob("*.safetensors")):
            found[f"{stage.name}/{path.relative_to(folder)}"] = hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
        rows = read_metrics(folder / "metrics.jsonl")
        found[f"{stage.name}/metrics"] = [
            {k: v for k, v in row.items() if k != "seconds"} for row in rows
        ]
    assert found
    return found
