"""A small builder of search directories for the report's tests."""

from pathlib import Path
from typing import Any

from report_sample import CLASSES, TINY, build_run, wilson, write_json


def row(method: str, density: float | None, clean, robust, **more: Any) -> dict[str, Any]:
    """Return one row of a search.json; accuracies on test, None where not measured."""
    nonzeros = None if density is None else round(266_200 * density)
    base = {
        "method": method,
        "density": density,
        "sparsity": None if density is None else 1 - density,
        "nonzeros": nonzeros,
        "clean_accuracy": clean,
        "clean_interval": None if clean is None else wilson(clean),
        "robust_accuracy": robust,
        "robust_interval": None if robust is None else wilson(robust),
        "eps": 8 / 255,
        "norm": "linf",
        "attack": "worst case of 2 attacks: PGD(eps=8/255, steps=50), APGD-CE(eps=8/255)",
        "run": "",
        "stage": None,
        "runs": [],
        "seeds": [0],
        "validation_clean": clean,
        "validation_robust": robust,
        "per_seed": [],
        "verdict": "explored",
        "reason": "",
    }
    return base | more


def build_search(
    root: Path,
    *,
    methods: tuple[str, ...] = ("hydra", "lottery", "gradual-magnitude"),
    classes: tuple[str, ...] = CLASSES,
    layers: dict[str, tuple[int, ...]] = TINY,
    found: bool = True,
    seeds: int = 1,
    **changes: Any,
) -> Path:
    """Write a search directory with a dense network and three densities of each method."""
    dense = row("dense", 1.0, 0.984, 0.921, verdict="dense", run="trials/dense-00", stage="dense")
    candidates = []
    for place, method in enumerate(methods):
        for density in (0.25, 0.0625, 0.02):
            loss = 0.004 / density**0.6 * (1 + 0.4 * place)
            clean, robust = 0.986 - loss / 3, 0.925 - loss
            tested = density == 0.0625
            verdict = "meets" if robust > 0.895 else "fails"
            more = {"verdict": verdict, "validation_clean": clean, "validation_robust": robust}
            numbers = (clean, robust) if tested else (None, None)
            candidates.append(row(method, density, *numbers, **more))
    best = candidates[1] | {"run": "trials/best-01", "stage": "finetune"}
    best |= {
        "verdict": "winner" if found else "fails",
        "reason": "the sparsest that meets the limits",
    }
    if seeds > 1:
        spread = [
            {"seed": s, "clean": 0.978 + s / 1000, "robust": 0.9 + s / 500} for s in range(seeds)
        ]
        best |= {"per_seed": spread, "seeds": list(range(seeds))}
    candidates[1] = best
    for name, stages in (
        ("dense-00", [{"name": "dense", "clean": 0.984, "robust": 0.921}]),
        ("best-01", [{"name": "dense"}, {"name": "finetune", "density": 0.0625, "robust": 0.9039}]),
    ):
        build_run(root / "trials" / name, stages, name=name, classes=classes, layers=layers)
    if found:
        (root / "best").mkdir()
        (root / "best" / "weights.safetensors").write_bytes(b"\0" * 48_211)
        write_json(root / "best" / "card.json", {})
    search = {
        "name": "mnist-mlp",
        "identity": "0a1b2c3d",
        "data": "mnist",
        "model": "mlp",
        "settings": {"eps": 8 / 255, "norm": "linf", "max_drop": 0.02, "seeds": list(range(seeds))},
        "dense": dense,
        "candidates": candidates,
        "winner": best if found else None,
        "nearest": None if found else best,
        "finished": True,
        "stopped": None,
        "best": "best" if found else None,
        "seconds": 3725.0,
        "constraint": {"clean": 0.964, "robust": 0.895},
        "thresholds_text": "clean and robust accuracy at most 2 points below the dense network",
    }
    write_json(root / "search.json", search | changes)
    return root
