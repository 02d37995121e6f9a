"""Train the dense network whose errors divide others' in the mean corruption error, and measure it.

python benchmarks/corruption_baseline.py OUT     # about 10 CPU-minutes; a second call finds it done
python benchmarks/corruption_baseline.py OUT --write    # also replace the file in the package
"""

import json
import sys
from pathlib import Path

import torch

import wiry
from wiry.data.corruptions import CORRUPTIONS, SEVERITIES
from wiry.evaluation import corruption
from wiry.evaluation.judge import predict

RECIPE = {
    "name": "corruption-baseline",
    "data": "cifar10",
    "model": {"name": "resnet18", "width": 8},
    "stages": [
        {
            "name": "dense",
            "epochs": 8,
            "batch_size": 128,
            "objective": "natural",
            "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0005, "decay": "cosine"},
        }
    ],
}
NUM_SAMPLES, SEED, BATCH = 1000, 0, 128
WHAT = (
    "errors of a resnet18 of width 8, dense and trained naturally on CIFAR-10 for 8 epochs, on the "
    "first 1,000 test images under corruptions made by wiry"
)


def main(out: Path, write: bool) -> None:
    """Train, measure on the first test images, print and perhaps write."""
    torch.set_num_threads(1)
    run = wiry.train_recipe(wiry.parse_recipe(RECIPE), out)
    model = wiry.load_stage(run, "dense")[0].eval()
    data = wiry.build_dataset("cifar10")
    x, y = (part[:NUM_SAMPLES] for part in data.split("test"))
    right = corruption.corrupted_verdicts(
        model, y, corruption.made_here(x, SEED),
        names=list(CORRUPTIONS), severities=SEVERITIES, batch_size=BATCH,
    )  # fmt: skip
    error = 1 - right.mean(axis=0)
    found = {
        "what": WHAT,
        "command": "python benchmarks/corruption_baseline.py OUT --write",
        "recipe": RECIPE,
        "torch": torch.__version__,
        "split": "test",
        "num_samples": NUM_SAMPLES,
        "seed": SEED,
        "class_names": list(data.class_names),
        "shape": list(data.input_shape),
        "clean_error": round(float((predict(model, x) != y).double().mean()), 4),
        "error": {
            name: [round(float(e), 4) for e in row]
            for name, row in zip(CORRUPTIONS, error, strict=True)
        },
    }
    for name, row in found["error"].items():
        print(f"{name:18s}", *(f"{e:6.3f}" for e in row))
    print(f"clean {found['clean_error']:.3f}, mean under corruptions {error.mean():.4f}")
    if write:
        path = Path(corruption.__file__).with_name(corruption.BASELINE)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--write" in sys.argv)
