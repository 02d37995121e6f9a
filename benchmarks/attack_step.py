"""Time a PGD-10 adversarial training step against the model calls it cannot do without.

The step is the objective `adversarial` with the attack `pgd`, its backward pass and an SGD momentum
step. The floor is written in plain torch and shares no code with it: ten forwards with the gradient
on the input, parameters frozen, in evaluation mode, then one training forward and backward, and one
optimizer step, each timed alone. Step and floor alternate; the ratio is that of the medians over
rounds. With one thread the process's CPU time is taken, which other jobs disturb less; with more,
wall time. Runs on the CPU: `python benchmarks/attack_step.py --models cnn-small vgg16 --json`.
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.rng import stream
from wiry.models.base import build_model
from wiry.objectives.adversarial import Adversarial

STEPS = 10
MODELS = ("cnn-small", "vgg16")
BATCH_SIZES = {"cnn-small": 128, "vgg16": 32}


def main() -> None:
    """Print a table, or JSON rows."""
    parser = argparse.ArgumentParser(description="Time an adversarial training step")
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--batch-size", type=int, help="default: 32 for vgg16, else 128")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print rows instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [
        measure(model, options.batch_size or BATCH_SIZES.get(model, 128), options.rounds)
        for model in options.models
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.rounds} rounds")
    print(f"{'model':<12}{'batch':>6}{'step ms':>10}{'floor ms':>10}{'ratio':>8}{'range':>14}")
    for row in rows:
        span = "{:.2f}-{:.2f}".format(*row["ratio_range"])
        print(
            f"{row['model']:<12}{row['batch_size']:>6}{row['step_ms']:>10.1f}"
            f"{row['floor_ms']:>10.1f}{row['ratio']:>8.3f}{span:>14}"
        )


def measure(name: str, batch_size: int, num_rounds: int) -> dict[str, Any]:
    """Return one row: medians over rounds, and the smallest and largest ratio of a round."""
    generator = stream(0, "benchmark")
    x = torch.rand(batch_size, 3, 32, 32, generator=generator)
    y = torch.randint(0, 10, (batch_size,), generator=generator)
    model = build_model(name, input_shape=(3, 32, 32), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    batch = Batch(x, y, torch.arange(batch_size))
    objective = Adversarial(attack=PGD(steps=STEPS))
    steps, floors = [], []
    for _ in range(num_rounds + 1):
        steps.append(step_seconds(objective, model, optimizer, batch, generator))
        floors.append(floor_seconds(model, optimizer, x, y))
    steps, floors = steps[1:], floors[1:]  # the first round allocates
    ratios = [a / b for a, b in zip(steps, floors, strict=True)]
    step_ms, floor_ms = (1000 * statistics.median(values) for values in (steps, floors))
    return {
        "model": name,
        "batch_size": batch_size,
        "ratio": step_ms / floor_ms,
        "ratio_range": [min(ratios), max(ratios)],
        "step_ms": step_ms,
        "floor_ms": floor_ms,
    }


def now() -> float:
    """Return CPU seconds with one thread, wall seconds with more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def step_seconds(
    objective: Adversarial,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
) -> float:
    """Time what is judged: attack, loss, backward and optimizer step through wiry."""
    model.train()
    began = now()
    loss = objective(model, model, batch, generator)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    return now() - began


def floor_seconds(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> float:
    """Time the model calls alone, in plain torch; switching modes is not counted."""
    seconds = 0.0
    model.eval().requires_grad_(False)
    image = x.clone().requires_grad_()
    for _ in range(STEPS):
        began = now()
        torch.autograd.grad(nn.functional.cross_entropy(model(image), y), image)
        seconds += now() - began
    model.train().requires_grad_(True)
    optimizer.zero_grad()
    began = now()
    nn.functional.cross_entropy(model(x), y).backward()
    seconds += now() - began
    began = now()
    optimizer.step()
    return seconds + now() - began


if __name__ == "__main__":
    main()
