"""A small builder of run directories for the report's tests: files only, no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LAYERS = {"body.0.weight": (300, 784), "body.2.weight": (100, 300), "body.4.weight": (10, 100)}
TINY = {"first.weight": (8, 16), "second.weight": (4, 8)}


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def wilson(share: float, num: int = 10_000) -> list[float]:
    """Roughly; the report only shows what it is given."""
    half = 1.96 * (share * (1 - share) / num) ** 0.5
    return [share - half, share + half]


def build_stage(
    folder: Path,
    *,
    density: float = 1.0,
    clean: float = 0.981,
    robust: float | None = 0.912,
    layers: dict[str, tuple[int, ...]] = TINY,
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
    done: bool = True,
    num_rows: int = 12,
    with_test: bool = False,
    initial_seed: int = 7,
) -> Path:
    """Write one stage: start weights, metrics, mask, evaluation and, if `done`, the DONE mark."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    _metrics(folder, density, clean, robust or 0.0, num_rows, noise, with_test)
    mask = {n: (noise.random(s) < density).astype(np.uint8) for n, s in layers.items()}
    save_file(mask, folder / "mask.safetensors")
    save_file({n: np.zeros(1, np.float32) for n in layers}, folder / "weights.safetensors")
    _initial(folder, layers, np.random.default_rng(initial_seed))
    if not done:
        return folder
    stage = folder.name.partition("-")[2]
    summary = {"stage": stage, "steps": 4690, "epochs": 10, "seconds": 93.2, "density": density}
    write_json(folder / "DONE", summary | {"identity": "0" * 16, "files": {}})
    _evaluation(folder, density, clean, robust, mask, classes, noise)
    return folder


def _initial(folder: Path, layers, noise: np.random.Generator) -> None:
    """Write the weights at the stage's step 0: the same for equal seeds, as after a rewind."""
    (folder / "kept").mkdir()
    initial = {n: noise.normal(0, 0.1, s).astype(np.float32) for n, s in layers.items()}
    save_file(initial, folder / "kept" / "0it.safetensors")


def _metrics(folder, density, clean, robust, num_rows, noise, with_test) -> None:
    lines = []
    for position in range(num_rows):
        rise = 1 - np.exp(-(position + 1) / 3)
        jitter = noise.normal(0, 0.004, 3)
        row = {
            "step": 391 * (position + 1),
            "epoch": position + 1.0,
            "train_loss": 0.2 + 1.8 * (1 - rise),
            "train_accuracy": min(1.0, clean * rise + 0.01),
            "train_robust_accuracy": robust * rise + jitter[0],
            "validation_loss": 0.3 + 1.7 * (1 - rise) + 0.02 * max(0, position - 8),
            "validation_robust_loss": 0.5 + 1.6 * (1 - rise) + 0.04 * max(0, position - 6),
            "validation_accuracy": clean * rise + jitter[1],
            "validation_robust_accuracy": robust * rise + jitter[2],
            "density": density,
            "layer_density": {},
            "seconds": 9.3 * (position + 1),
        }
        if with_test:
            names = ("loss", "accuracy", "robust_accuracy")
            row |= {f"test_{n}": row[f"validation_{n}"] - 0.002 for n in names}
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def _evaluation(folder, density, clean, robust, mask, classes, noise) -> None:
    counts = {name: int(m.sum()) for name, m in mask.items()}
    total, kept = sum(m.size for m in mask.values()), sum(counts.values())
    spread = noise.normal(0, 0.02, (2, len(classes)))
    attack = "worst case of 2 attacks: PGD(eps=8/255, steps=50), APGD-CE(eps=8/255)"
    report = {
        "split": "test",
        "num_samples": 10_000,
        "seed": 0,
        "clean_accuracy": clean,
        "clean_interval": wilson(clean),
        "robust_accuracy": robust,
        "robust_interval": None if robust is None else wilson(robust),
        "eps": 8 / 255,
        "norm": "linf",
        "attack": attack,
        "attacks": []
        if robust is None
        else [
            {"attack": "PGD(steps=50)", "accuracy": robust + 0.01, "interval": wilson(robust)},
            {"attack": "APGD-CE()", "accuracy": robust, "interval": wilson(robust)},
        ],
        "class_names": list(classes),
        "per_class": [
            {
                "name": name,
                "num": 1000,
                "clean": float(np.clip(clean + spread[0, i], 0, 1)),
                "robust": None
                if robust is None
                else float(np.clip(robust + 3 * spread[1, i], 0, 1)),
            }
            for i, name in enumerate(classes)
        ],
        "cost": {
            "mask_density": density,
            "nonzero_density": kept / total,
            "sparsity": 1 - kept / total,
            "nonzeros": kept,
            "prunable": total,
            "parameters": total + 410,
            "dead_units": 3 if density < 0.2 else 0,
            "units": 410,
            "flops_dense": 2 * total,
            "flops_sparse": 2 * kept,
            "flops_uncounted": [],
            "bytes_dense": 4 * total,
            "bytes_sparse": 4 * kept + total // 8,
            "layers": [
                {
                    "name": name,
                    "shape": list(m.shape),
                    "kept": counts[name],
                    "nonzeros": counts[name],
                    "entries": int(m.size),
                    "density": counts[name] / m.size,
                }
                for name, m in mask.items()
            ],
        },
        "seconds": 41.7,
    }
    write_json(folder / "eval" / "test-0a1b2c3d.json", report)
    if robust is not None:
        _examples(folder / "eval" / "test-0a1b2c3d.npz", len(classes), noise)


def _examples(path: Path, num_classes: int, noise: np.random.Generator, num: int = 8) -> None:
    y, x = np.mgrid[0:28, 0:28]
    images = np.zeros((num, 1, 28, 28), np.uint8)
    label = noise.integers(0, num_classes, num)
    for i in range(num):
        cy, cx, r = 10 + noise.integers(8), 10 + noise.integers(8), 5 + noise.integers(5)
        ring = np.abs(np.hypot(y - cy, (x - cx) * (1 + i % 3 / 2)) - r)
        images[i, 0] = (255 * np.clip(1.8 - ring, 0, 1)).astype(np.uint8)
    change = noise.choice([-8 / 255, 0, 8 / 255], images.shape)
    adversarial = np.clip(images / 255 + change, 0, 1).astype(np.float16)
    np.savez(
        path,
        index=np.arange(num),
        label=label,
        prediction=label,
        example_index=np.arange(num),
        example_clean=images,
        example_adversarial=adversarial,
        example_label=label,
        example_clean_prediction=label,
        example_adversarial_prediction=(label + 1) % num_classes,
    )


def build_run(
    root: Path,
    stages: list[dict[str, Any]],
    *,
    name: str = "digits-mlp",
    seed: int = 0,
    layers: dict[str, tuple[int, ...]] = TINY,
    **common: Any,
) -> Path:
    """Write a run directory; each stage is `{"name": ..., **arguments of build_stage}`."""
    root.mkdir(parents=True)
    recipe = {
        "name": name,
        "data": {"name": "mnist"},
        "model": {"name": "mlp", "hidden": [300, 100]},
        "seed": seed,
        "stages": [{"name": s["name"], "epochs": 10} for s in stages],
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    versions = {"wiry": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"}
    provenance = {"versions": versions, "python": "3.11.2", "device": "cpu", "commit": None}
    write_json(root / "provenance.json", provenance | {"seed": seed, "threads": 2})
    for position, stage in enumerate(stages, start=1):
        arguments = {key: value for key, value in stage.items() if key != "name"}
        folder = root / "stages" / f"{position}-{stage['name']}"
        chosen = {"layers": layers, "seed": 100 * seed + position} | common | arguments
        build_stage(folder, **chosen)
    return root


def lottery_stages(levels: int = 20, **common: Any) -> list[dict[str, Any]]:
    """Return the stages of a lottery-ticket run, a fifth of the weights pruned each time."""
    stages: list[dict[str, Any]] = [{"name": "dense", "robust": 0.453, **common}]
    for level in range(1, levels + 1):
        robust = 0.453 + 0.15 * np.sin(np.pi * level / 20)
        clean = 0.984 - 0.0001 * level**2
        stage = {"name": f"level-{level}", "density": 0.8**level, "clean": clean, "robust": robust}
        stages.append(stage | common)
    return stages
