"""Time ways to run sparse networks against each other: the table of docs/results/runtime.md.

Weights are random and masks random, uniform (every layer the same) or ERK, unless --trained names
networks that were really trained (runs, bundles or .wiry files). Engines take turns in one process;
with one thread CPU time is counted, with more the wall clock. "faster" is the median over rounds of
the time of the fastest maintained dense float32 engine (ONNX Runtime or OpenVINO) divided by the
engine's own; "differs" is the largest difference from torch's logits over the largest logit.
The channel-pruned network has as many weights as the sparse one; it was not trained.

    python benchmarks/runtime.py --fast
    python benchmarks/runtime.py --networks resnet18 vgg16 --sparsity 0.9 --batch 1 --json
    python benchmarks/runtime.py --trained runs/search-digits/best --threads 1 2
"""

import argparse
import dataclasses
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import wiry
from wiry.bench.base import Answer
from wiry.bench.measure import Written, dense_baseline, measure, open_all, write_all
from wiry.bench.onnx_write import write_onnx
from wiry.bench.subject import Subject
from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.export.outside import nonzeros
from wiry.models.base import build_model
from wiry.sparsify.select import keep_counts

SHAPES = {"resnet18": (3, 32, 32), "vgg16": (3, 32, 32), "mlp": (1, 28, 28)}
ALLOCATIONS = {"uniform": "layerwise", "erk": "erk"}
TARGETS = {  # times faster than the fastest maintained dense engine, uniform masks, one thread
    ("resnet18", 1): {0.9: 3.2, 0.95: 4.8, 0.99: 11},
    ("vgg16", 1): {0.9: 3.3, 0.95: 5.2, 0.99: 17},
    ("resnet18", 64): {0.9: 4.5, 0.95: 6, 0.99: 8},
    ("vgg16", 64): {0.9: 6, 0.95: 8, 0.99: 12},
    ("mlp", 1): {0.9: 2, 0.95: 2.7, 0.99: 4.3},
    ("mlp", 64): {0.9: 3.3, 0.95: 4.9, 0.99: 8.7},
}


@registry("engine").register("deepsparse")
@dataclasses.dataclass(frozen=True)
class DeepSparse:
    """DeepSparse 1.8.0, where it is installed: out of maintenance, a yardstick only."""

    exact = True
    maintained_dense = False

    def write(self, subject: Subject, folder: Path) -> Path:
        """Write an `.onnx` file."""
        _deepsparse()
        return write_onnx(subject, folder / "network.onnx")

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Compile the file."""
        engine = _deepsparse().compile_model(str(path), batch_size, num_cores=num_threads)
        return lambda images: engine.run([images])[0]


def _deepsparse() -> Any:
    try:
        return importlib.import_module("deepsparse")
    except ImportError as error:
        raise UserError("not installed") from error


def main() -> None:
    """Print a table, or JSON rows."""
    options = _options()
    rows: list[dict[str, Any]] = []
    for label, subject in networks(options):
        rows += rows_of(label, subject, options)
    if options.json:
        print(json.dumps(rows, indent=1))


def networks(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Subject]]:
    """Yield each network with what it is called."""
    if options.trained:
        for path in options.trained:
            model = wiry.load(path)
            mask = nonzeros(model)
            label = {"network": str(path), "masks": "trained", "sparsity": sparsity_of(model)}
            yield label, Subject(model, mask, tuple(model.built_from["input_shape"]))
        return
    for network in options.networks:
        for masks in options.masks:
            for sparsity in options.sparsity:
                label = {"network": network, "masks": masks, "sparsity": sparsity}
                yield label, random_subject(network, masks, sparsity)


def random_subject(network: str, masks: str, sparsity: float) -> Subject:
    """Return a network of random weights under a random mask of exactly that sparsity."""
    shape = SHAPES[network]
    model = build_model(network, input_shape=shape, num_classes=10, seed=0).eval()
    draw = stream(0, "runtime", network, masks, str(sparsity))
    scores = {n: torch.rand(p.shape, generator=draw) for n, p in prunable(model).items()}
    alive = Mask({n: torch.ones_like(s, dtype=torch.bool) for n, s in scores.items()})
    num_keep = round((1 - sparsity) * alive.num_entries())
    allocate = registry("allocation").get(ALLOCATIONS[masks])
    mask = keep_counts(scores, allocate(scores, alive, num_keep))
    mask.apply_(model)
    return Subject(model, mask, shape)


def sparsity_of(model: torch.nn.Module) -> float:
    """Return the share of the prunable weights that is zero."""
    weights = list(prunable(model).values())
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def rows_of(
    label: dict[str, Any], subject: Subject, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure one network and print its lines."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        written = write_all(subject, options.engines, Path(folder), _tell)
        for threads in options.threads:
            for batch in options.batch:
                found = _measured(label, subject, written, batch, threads, options)
                rows += found
                if not options.json:
                    _print(found)
    return rows


def _measured(
    label: dict[str, Any],
    subject: Subject,
    written: dict[str, Written],
    batch: int,
    threads: int,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    settings = {"batch_size": batch, "num_threads": threads}
    answers = open_all(written, subject.input_shape, tell=_tell, **settings)
    found = measure(
        subject, answers, num_rounds=options.rounds, slot_seconds=options.slot, **settings
    )
    best = dense_baseline(written, found)
    rows = []
    for name, one in found.items():
        row = {**label, **settings, "engine": name, "bytes": written[name].num_bytes}
        row |= {"minimum_ms": 1e3 * one.timing.minimum, "median_ms": 1e3 * one.timing.median}
        if best is not None:
            dense = found[best].timing
            row["faster"] = one.timing.times_faster(dense)
            row["faster_by_minimum"] = dense.minimum / one.timing.minimum
        row |= {"differs": one.difference, "target": None}
        if name == "wiry" and threads == 1 and label["masks"] == "uniform":
            row["target"] = TARGETS[label["network"], batch].get(label["sparsity"])
        rows.append(row)
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    print(
        f"\n{first['network']}, {first['sparsity']:.1%} sparse ({first['masks']}), batch "
        f"{first['batch_size']}, {first['num_threads']} thread(s); ms a batch"
    )
    print(
        f"{'':22}{'minimum':>10}{'median':>10}{'faster':>9}{'by min.':>9}{'target':>8}"
        f"{'differs':>10}"
    )
    for row in sorted(rows, key=lambda row: row["median_ms"]):
        ratios = "".join(f"{row.get(k, 0):>8.2f}x" for k in ("faster", "faster_by_minimum"))
        target = "" if row["target"] is None else f"{row['target']:g}x"
        print(
            f"{row['engine']:22}{row['minimum_ms']:>10.3f}{row['median_ms']:>10.3f}{ratios}"
            f"{target:>8}{row['differs']:>10.1e}"
        )
    sys.stdout.flush()


def _tell(name: str, reason: str) -> None:
    print(f"{name}: {reason}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ways to run sparse networks, timed in turns")
    parser.add_argument("--networks", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--masks", nargs="+", default=["uniform", "erk"], choices=ALLOCATIONS)
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--trained", nargs="+", type=Path, help="networks, instead of random ones")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--engines", nargs="+", default=None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slot", type=float, default=0.2, help="seconds of an engine in a round")
    parser.add_argument("--fast", action="store_true", help="a minute: one network, two engines")
    parser.add_argument("--json", action="store_true", help="print rows instead of tables")
    options = parser.parse_args()
    if options.fast:
        options.networks, options.masks, options.sparsity = ["resnet18", "mlp"], ["uniform"], [0.95]
        options.batch, options.rounds, options.slot = [1], 5, 0.1
        options.engines = options.engines or ["torch", "onnxruntime", "wiry"]
    options.engines = options.engines or registry("engine").names()
    return options


if __name__ == "__main__":
    main()
