"""Time what the sparse-to-sparse methods add to a PGD-10 adversarial training step.

A step is the objective `adversarial` with the attack `pgd`, its backward pass, the sparsifier's
hooks and SGD with momentum. The hooks are timed apart, within the same step; what the base class
does for any mask (zero gradients and weights) is timed beside them on the same tensors, because a
network with a fixed mask pays it too. Shares are those of medians over the steps. With one thread
the process's CPU time is taken, which other jobs disturb less; with more, wall time. Runs on the
CPU: `python benchmarks/rewiring_step.py --methods bayesian-connectivity fixed`.
"""

import argparse
import dataclasses
import json
import statistics
import time
from typing import Any

import torch
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.state import SparseState
from wiry.models.base import build_model
from wiry.objectives.adversarial import Adversarial
from wiry.sparsify.base import Sparsifier

METHODS = ("bayesian-connectivity", "fixed")
EPS = 8 / 255


def main() -> None:
    """Print a table, or JSON rows."""
    parser = argparse.ArgumentParser(description="Time the hooks of sparse-to-sparse methods")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME")
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--sparsity", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print rows instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(name, options) for name in options.methods]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"torch {torch.__version__}, {options.model}, batch {options.batch_size}, "
        f"PGD-{options.attack_steps}, sparsity {options.sparsity:g}, "
        f"{options.threads} thread(s), {options.rounds} steps"
    )
    columns = ("step ms", "hooks ms", "masking ms", "hooks %", "beyond masking %", "moved", "alive")
    print(f"{'method':<24}" + "".join(f"{column:>18}" for column in columns))
    for row in rows:
        print(
            f"{row['method']:<24}{row['step_ms']:>18.1f}{row['hooks_ms']:>18.1f}"
            f"{row['masking_ms']:>18.1f}{100 * row['hooks_share']:>18.2f}"
            f"{100 * row['rewiring_share']:>18.2f}{row['links_moved']:>18.0f}{row['links']:>18}"
        )


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return one row: medians over the steps after the first, which allocates."""
    bench = Bench.of(name, options)
    steps = [bench.step() for _ in range(options.rounds + 1)][1:]
    step, hooks, masking, moved = (statistics.median(v) for v in zip(*steps, strict=True))
    return {
        "method": name,
        "step_ms": 1000 * step,
        "hooks_ms": 1000 * hooks,
        "masking_ms": 1000 * masking,
        "hooks_share": hooks / step,
        "rewiring_share": max(0.0, hooks - masking) / step,
        "links_moved": moved,
        "links": bench.state.mask.num_kept(),
    }


def now() -> float:
    """Return CPU seconds with one thread, wall seconds with more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclasses.dataclass
class Bench:
    """A network that is trained on one batch of random images and labels."""

    model: nn.Module
    sparsifier: Sparsifier
    state: SparseState
    optimizer: torch.optim.Optimizer
    objective: Adversarial
    batch: Batch
    generator: torch.Generator

    @classmethod
    def of(cls, name: str, options: argparse.Namespace) -> "Bench":
        """Build network, method and batch; `fixed` gets the mask of `set`."""
        generator, num = stream(0, "benchmark"), options.batch_size
        images = torch.rand(num, 3, 32, 32, generator=generator)
        labels = torch.randint(0, 10, (num,), generator=generator)
        model = build_model(options.model, input_shape=(3, 32, 32), num_classes=10, seed=0)
        state = SparseState(total_steps=10_000, generator=stream(0, "sparsifier"))
        sparsity = {"sparsity": options.sparsity}
        if name == "fixed":
            registry("sparsifier").build({"name": "set"} | sparsity).setup(model, state)
            sparsity = {}
        sparsifier = registry("sparsifier").build({"name": name} | sparsity)
        sparsifier.setup(model, state)
        state.mask.apply_(model)
        trained = sparsifier.trainable(model, state).values()
        return cls(
            model,
            sparsifier,
            state,
            torch.optim.SGD(trained, lr=options.lr, momentum=0.9),
            Adversarial(attack=PGD(eps=EPS, steps=options.attack_steps)),
            Batch(images, labels, torch.arange(num)),
            generator,
        )

    def step(self) -> tuple[float, float, float, float]:
        """Take a step; return its seconds, those of hooks and of masking, and the links moved."""
        model, state, before = self.model.train(), self.state, self.state.mask
        began = now()
        self.sparsifier.before_forward(model, state)
        hooks = now() - began
        loss = self.objective(model, model, self.batch, self.generator)
        self.optimizer.zero_grad()
        model.zero_grad()
        loss.total.backward()
        hooked = now()
        self.sparsifier.after_backward(model, state)
        hooks += now() - hooked
        self.optimizer.step()
        hooked = now()
        self.sparsifier.after_step(model, state)
        ended = now()
        hooks += ended - hooked
        state.step += 1
        state.mask.apply_to_gradients_(model)
        state.mask.apply_(model)
        masking = now() - ended
        moved = sum(int((mask & ~before[name]).sum()) for name, mask in state.mask.items())
        return ended - began, hooks, masking, moved


if __name__ == "__main__":
    main()
