"""A small builder of evaluations for the report's tests: every key of a record, no network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from report_sample import CLASSES, wilson, write_json

NUM = 400
NAMES = ("APGD(eps=0.1, norm='linf', loss='ce', steps=100)", "FAB(eps=0.1, targeted=True)")
NAMES = (*NAMES, "Square(eps=0.1, norm='linf', num_queries=5000)")
TAKEN = (60, 20, 0)
CHECKS = ["black-box", "chance", "gradients", "num-samples"]


def attack_rows(clean: float, taken: tuple[int, ...] = TAKEN) -> list[dict[str, Any]]:
    """Return the rows of a cascade, each attack on what the earlier ones left."""
    rows, left = [], round(clean * NUM)
    for name, num in zip(NAMES, taken, strict=True):
        share = (left - num) / NUM
        spec = {"name": name.partition("(")[0].lower(), "eps": 0.1}
        row = {"attack": name, "spec": spec, "eps": 0.1, "norm": "linf", "accuracy": share}
        row |= {"interval": wilson(share, NUM), "cumulative": True, "num_attacked": left}
        rows.append(row | {"num_fooled": num, "seconds": 1.5})
        left -= num
    return rows


def security_curve(scale: float = 0.1, **changes: Any) -> dict[str, Any]:
    """Return a measure with a curve, values of every kind and images."""
    eps = [0.0, 0.05, 0.1, 0.2]
    curve = {"name": "security curve", "x_label": "eps (linf)", "x": eps}
    curve |= {"y": [0.9 * 2 ** -(e / scale) for e in eps], "y_label": "accuracy"}
    values = {"median": 0.083, "found_share": 0.5, "num_samples": 200, "unsaid": None}
    found = {"measure": "security-curve", "spec": {"name": "security-curve", "steps": 7}}
    found |= {"values": values, "remark": "An upper bound.", "curves": [curve]}
    return found | {"arrays": ["nearest_clean", "nearest_distance"]} | changes


def record(clean: float = 0.9, **changes: Any) -> dict[str, Any]:
    """Return the record of an evaluation by AutoAttack with a measure and two findings."""
    robust = clean - sum(TAKEN) / NUM
    base = {"split": "test", "num_samples": NUM, "seed": 0, "eps": 0.1, "norm": "linf"}
    base |= {"clean_accuracy": clean, "clean_interval": wilson(clean, NUM)}
    base |= {"robust_accuracy": robust, "robust_interval": wilson(robust, NUM)}
    base |= {"attack": f"AutoAttack (standard): {NAMES}", "attacks": attack_rows(clean)}
    base |= {"cascade": True, "protocol": "AutoAttack (standard)", "class_names": list(CLASSES)}
    base["per_class"] = [{"name": n, "num": 40, "clean": clean, "robust": robust} for n in CLASSES]
    base |= {"certified": None, "screened": None, "seconds": 12.5, "checks": CHECKS}
    note = {"check": "num-samples", "severity": "note", "message": "Few images.", "evidence": {}}
    doubt = {"check": "black-box", "severity": "warning", "message": "Hidden gradients."}
    base["findings"] = [note, doubt | {"evidence": {"only_square": 0.0123456}}]
    cost = {"mask_density": 0.2, "nonzeros": 200, "prunable": 1000, "parameters": 1010}
    base |= {"cost": cost | {"flops_sparse": 400}, "measures": [security_curve()]}
    return base | changes


def arrays(position: int = 0, num: int = 4) -> dict[str, np.ndarray]:
    """Return fooled images, and the nearest of the measure at a position (the last not found)."""
    noise = np.random.default_rng(0)
    clean = noise.integers(0, 255, (num, 1, 6, 6)).astype(np.uint8)
    label = np.arange(num)
    images = {"clean": clean, "adversarial": (clean / 255).astype(np.float16), "label": label}
    images |= {"clean_prediction": label, "adversarial_prediction": label + 1, "index": label}
    found = {f"example_{key}": value for key, value in images.items()}
    distance = np.append(np.linspace(0.036, 0.012, num - 1), np.inf)
    near = images | {"distance": distance}
    return found | {f"measure_{position}_nearest_{key}": value for key, value in near.items()}


def write_evaluation(
    folder: Path, name: str = "evaluation", images: dict[str, np.ndarray] | None = None, **more: Any
) -> Path:
    """Write `<name>.json` and `<name>.npz`."""
    write_json(folder / f"{name}.json", record(**more))
    found: dict[str, Any] = dict(arrays() if images is None else images)
    np.savez(folder / f"{name}.npz", **found)
    return folder


def flips() -> dict[str, Any]:
    """Return what `Flips.to_data` gives, with a loss that shows and one that does not."""

    def verdicts(lost: int, gained: int, interval: list[float]) -> dict[str, Any]:
        curve = {"name": "lost", "x_label": "margin", "x": [1.0, 3.0], "y": [0.5, 0.0]}
        row = {"name": "zero", "num": 40, "dense": 0.9, "sparse": None, "lost": lost, "gained": 0}
        found = {"num_kept": 300, "num_lost": lost, "num_gained": gained, "num_wrong": 20}
        found |= {"difference": (gained - lost) / NUM, "interval": interval, "p_value": 3e-9}
        foretold = {"auc": 0.93, "correlation": -0.4, "curve": curve | {"y_label": "share lost"}}
        return found | {"per_class": [row], "foretold": foretold}

    found = {"clean": verdicts(3, 2, [-0.02, 0.01]), "robust": verdicts(70, 8, [-0.2, -0.1])}
    return {"dense": "big.pt2", "sparse": "small.pt2"} | found


def transfer() -> dict[str, Any]:
    """Return what `TransferMatrix.to_data` gives for two networks."""
    found = {"names": ["dense", "sparse"], "attacks": ["PGD(eps=0.1)"], "num_samples": 200}
    found |= {"clean_accuracy": [0.95, 0.9], "accuracy": [[0.5, 0.7], [None, 0.4]]}
    return found | {"kept": [[0.5, 0.7], [0.8, 0.4]], "num_both": [[1, 1], [1, 1]]}


def edited(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    write_json(path, json.loads(path.read_text()) | changes)
