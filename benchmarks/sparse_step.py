"""Time a PGD-10 adversarial training step on the sparse engine against the dense step.

Both are the objective `adversarial` with the attack `pgd`, its backward pass, an SGD step and the
mask; with the engine, the attack's ten forwards and gradients run on the weights that are not zero,
taken over anew in each step. Masks are random, uniform over the layers. Steps alternate; the ratio
is that of the medians over rounds. With one thread the process's CPU time is taken, which other
jobs disturb less. Gradients on the images, of the engine and of torch, are compared with those in
float64: where they differ by more than 1e-5 a unit sits at its kink. `call` is the ratio for an
answer and its gradient in evaluation, at up to 64 images. Runs on the CPU:
`python benchmarks/sparse_step.py --models resnet18 vgg16 --sparsities 0.9 0.95 0.99`.
"""

import argparse
import copy
import json
import statistics
import time
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.inner import searching_on
from wiry.core.mask import Mask, prunable
from wiry.core.rng import stream
from wiry.engine.inner import SparseTwin, work
from wiry.engine.lower import lower
from wiry.engine.network import SparseNetwork
from wiry.evaluation.fold import arranged, folded
from wiry.models.base import build_model
from wiry.objectives.adversarial import Adversarial

SHAPE = (3, 32, 32)
NUM_CHECKED = 32  # images whose gradients are compared with those in float64


def main() -> None:
    """Print a table, or JSON rows."""
    parser = argparse.ArgumentParser(description="Time an adversarial step on sparse weights")
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16"], metavar="NAME")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print rows instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.json:
        print(f"torch {torch.__version__}, {options.threads} thread(s), {options.rounds} rounds")
        print(
            f"{'model':<12}{'sparsity':>9}{'work':>7}{'dense s':>9}{'engine s':>9}{'ratio':>7}"
            f"{'range':>12}{'call':>7}{'error':>9}{'largest':>9}{'torch':>9}{'largest':>9}"
        )
    rows = []
    for name in options.models:
        for sparsity in options.sparsities:
            row = measure(name, sparsity, options.batch_size, options.rounds)
            rows.append(row)
            if not options.json:
                span = "{:.2f}-{:.2f}".format(*row["ratio_range"])
                print(
                    f"{name:<12}{sparsity:>9.1%}{row['work']:>7.1%}{row['dense_s']:>9.2f}"
                    f"{row['engine_s']:>9.2f}{row['ratio']:>7.2f}{span:>12}{row['call_ratio']:>7.2f}"
                    + "".join(
                        f"{e:>9.0e}" for kind in row["gradient_errors"].values() for e in kind
                    ),
                    flush=True,
                )
    if options.json:
        print(json.dumps(rows, indent=2))


def measure(name: str, sparsity: float, batch_size: int, num_rounds: int) -> dict[str, Any]:
    """Return one row: medians over rounds, and the smallest and largest ratio of a round."""
    generator = stream(0, "benchmark")
    x = torch.rand(batch_size, *SHAPE, generator=generator)
    y = torch.randint(0, 10, (batch_size,), generator=generator)
    batch = Batch(x, y, torch.arange(batch_size))
    model = build_model(name, input_shape=SHAPE, num_classes=10, seed=0)
    mask = Mask(
        {
            n: torch.rand(p.shape, generator=generator) >= sparsity
            for n, p in prunable(model).items()
        }
    )
    mask.apply_(model)
    twins = {"dense": None, "engine": SparseTwin(model, SHAPE, "sparse", lambda line: None)}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    seconds: dict[str, list[float]] = {kind: [] for kind in twins}
    for _ in range(num_rounds + 1):
        for kind, twin in twins.items():
            begin = clock()
            step(model, mask, optimizer, batch, twin)
            seconds[kind].append(clock() - begin)
    dense, engine = (values[1:] for values in seconds.values())  # the first round allocates
    ratios = [a / b for a, b in zip(dense, engine, strict=True)]
    left, total = work(lower(model, SHAPE).graph, model)
    return {
        "model": name,
        "sparsity": sparsity,
        "work": left / total,
        "batch_size": batch_size,
        "dense_s": statistics.median(dense),
        "engine_s": statistics.median(engine),
        "ratio": statistics.median(dense) / statistics.median(engine),
        "ratio_range": [min(ratios), max(ratios)],
        "call_ratio": call_ratio(model.eval(), x[:64], num_rounds),
        "gradient_errors": gradient_errors(model.eval(), x[:NUM_CHECKED], y[:NUM_CHECKED]),
    }


def step(model: nn.Module, mask: Mask, optimizer: Any, batch: Batch, twin: Any) -> None:
    """Take one step of the loop."""
    model.train()
    with searching_on(model, twin):
        loss = Adversarial(attack=PGD())(model, model, batch, stream(0, "attack"))
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    optimizer.step()
    mask.apply_(model)


def call_ratio(model: nn.Module, x: Tensor, num_rounds: int) -> float:
    """Return the time of an answer with its gradient in evaluation, dense / engine.

    The dense one is of the copy that evaluation makes: norms folded, channels last.
    """
    with mock.patch("wiry.evaluation.fold.sparse_network", return_value=None):
        dense, _ = folded(model, x[:8])
    networks = {"dense": dense, "engine": SparseNetwork(model, SHAPE)}
    seconds: dict[str, list[float]] = {kind: [] for kind in networks}
    for _ in range(num_rounds + 1):
        for kind, network in networks.items():
            point = arranged(network, x).clone().requires_grad_()
            begin = clock()
            torch.autograd.grad(network(point).sum(), point)
            seconds[kind].append(clock() - begin)
    return statistics.median(seconds["dense"][1:]) / statistics.median(seconds["engine"][1:])


def clock() -> float:
    """Return CPU seconds of this process with one thread, else wall seconds."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def gradient_errors(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, list[float]]:
    """Return how far each image's gradient is from that in float64, as a share of its length.

    Returns:
        Of the engine and of torch in float32: the median over images, and the largest.
    """
    exact = copy.deepcopy(model).double()
    wanted = gradients(exact, x.double(), y)
    found = {}
    for kind, network in {"engine": SparseNetwork(model, SHAPE), "torch": model}.items():
        difference = (gradients(network, x, y).double() - wanted).norm(dim=1)
        errors = difference / wanted.norm(dim=1)
        found[kind] = [float(errors.median()), float(errors.max())]
    return found


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss's gradient on each image, as a row."""
    point = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(network(point), y, reduction="sum")
    return torch.autograd.grad(loss, point)[0].flatten(1)


if __name__ == "__main__":
    main()
