"""Show how small sparse networks are on disk, and how long saving and loading take.

Weights are random float32 and masks uniform, so nothing compresses by luck: values are noise and
masks have the entropy of their density. Beside `.wiry` files, exact and with float16 values, stand
the dense safetensors file and what `torch.nn.utils.prune` leaves in a checkpoint (the dense weight
and its float32 mask). Times are wall time of one thread, the best of the rounds; loading is from
the file to tensors (`load_state`). Runs on the CPU: `python benchmarks/file_size.py --json`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from wiry.core.mask import Mask, prunable
from wiry.core.rng import stream
from wiry.core.tensors import load_tensors, save_tensors
from wiry.export.sparse_file import load_mask, load_state, save
from wiry.models.base import build_model

SHAPE = (3, 32, 32)
TARGETS = {0.9: 9, 0.95: 16, 0.99: 65}  # times smaller than the dense file
COLUMNS = ("dense", "prune", "wiry", "wiry_float16")


def main() -> None:
    """Print a table, or JSON rows."""
    parser = argparse.ArgumentParser(description="Size of sparse networks on disk")
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16"], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1, help="for the times")
    parser.add_argument("--json", action="store_true", help="print rows instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(name, sparsity, Path(folder), options.rounds)
            for name in options.models
            for sparsity in TARGETS
        ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"torch {torch.__version__}, 1 thread; MB, times smaller, and seconds")
    print(
        f"{'':>18}{'dense':>8}{'prune':>8}{'wiry':>8}{'float16':>9}{'smaller':>9}{'target':>8}",
        end="",
    )
    print(f"{'save':>8}{'load':>7}{'dense save, load':>19}")
    for row in rows:
        sizes = "".join(f"{row[key] / 1e6:>8.3f}" for key in COLUMNS[:3])
        print(
            f"{row['model']:<11}{row['sparsity']:>5.0%}  {sizes}{row['wiry_float16'] / 1e6:>9.3f}"
            f"{row['times_smaller']:>9.1f}{row['target']:>8}{row['save_seconds']:>8.2f}"
            f"{row['load_seconds']:>7.2f}{row['dense_save_seconds']:>12.2f}"
            f"{row['dense_load_seconds']:>7.2f}"
        )


def measure(name: str, sparsity: float, folder: Path, num_rounds: int) -> dict[str, Any]:
    """Return one row: bytes of each file and seconds; what is read must be what was written."""
    model, mask = masked(name, sparsity)
    dense, exact, rounded = (folder / f for f in ("net.safetensors", "net.wiry", "half.wiry"))
    state = model.state_dict()
    times = {
        "dense_save_seconds": best(lambda: save_tensors(dense, state), num_rounds),
        "dense_load_seconds": best(lambda: load_tensors(dense), num_rounds),
        "save_seconds": best(lambda: save(model, exact, input_shape=SHAPE, mask=mask), num_rounds),
        "load_seconds": best(lambda: load_state(exact), num_rounds),
    }
    save(model, rounded, input_shape=SHAPE, mask=mask, dtype="float16")
    found = load_state(exact)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert load_mask(exact).equal(mask)
    sizes = {
        "dense": dense.stat().st_size,
        "prune": prune_checkpoint_size(model, mask, folder / "prune.pt"),
        "wiry": exact.stat().st_size,
        "wiry_float16": rounded.stat().st_size,
    }
    ratio = {"times_smaller": sizes["dense"] / sizes["wiry"], "target": TARGETS[sparsity]}
    return {"model": name, "sparsity": sparsity, **sizes, **ratio, **times}


def masked(name: str, sparsity: float) -> tuple[nn.Module, Mask]:
    """Return a network of random weights under a uniform mask, and the mask."""
    model = build_model(name, input_shape=SHAPE, num_classes=10, seed=0)
    generator = stream(0, "file-size", name, str(sparsity))
    draws = {n: torch.rand(p.shape, generator=generator) for n, p in prunable(model).items()}
    mask = Mask({name: draw >= sparsity for name, draw in draws.items()})
    mask.apply_(model)
    return model, mask


def prune_checkpoint_size(model: nn.Module, mask: Mask, path: Path) -> int:
    """Return the bytes of the checkpoint of a network pruned by `torch.nn.utils.prune`."""
    for name, kept in mask.items():
        place, _, tensor = name.rpartition(".")
        prune.custom_from_mask(model.get_submodule(place), tensor, kept)
    torch.save(model.state_dict(), path)
    return path.stat().st_size


def best(action: Callable[[], Any], num_rounds: int) -> float:
    """Return the least seconds that an action took."""
    seconds = []
    for _ in range(num_rounds):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
