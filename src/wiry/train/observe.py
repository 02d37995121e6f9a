"""What watches a training: measuring, checkpoints, kept weights. Observers read and never write."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core import dist
from wiry.core.files import write_atomic
from wiry.core.inner import searched
from wiry.core.mask import Mask, density, prunable
from wiry.core.recipe import Monitor
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.run import read_metrics
from wiry.core.tensors import save_tensors
from wiry.core.types import to_steps
from wiry.train.checkpoint import save_checkpoint
from wiry.train.fit import Training
from wiry.train.overfitting import OverfittingDetector

Split = tuple[Tensor, Tensor]

MEASURED_AT_ONCE = 500
"""Images in a batch of a measurement; its random streams begin anew in each."""


class MetricsWriter:
    """Measure at every `monitor.every` and at the end; append one line to metrics.jsonl.

    Args:
        warn: told when training overfits to its own attack; the line has it as `alarm`.
    """

    def __init__(
        self,
        monitor: Monitor,
        splits: dict[str, Split],
        path: Path,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.monitor, self.path, self.warn = monitor, path, warn
        self.detector = OverfittingDetector(split=monitor.splits[0] if monitor.splits else "")
        self.splits = {
            n: (x[: monitor.num_samples], y[: monitor.num_samples]) for n, (x, y) in splits.items()
        }
        self.attack = registry("attack").build(monitor.attack) if monitor.attack else None
        self.measure: Callable[..., dict[str, float]] = measure

    def rewind(self, num_steps: int) -> None:
        """Drop the rows after a step: what was measured after the checkpoint is measured again."""
        rows = [row for row in read_metrics(self.path) if row["step"] <= num_steps]
        for row in rows:
            self.detector(row)
        dist.barrier()
        if not dist.is_first():
            return
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def is_due(self, t: Training) -> bool:
        """Say whether a measurement is due after this batch."""
        every = max(1, to_steps(self.monitor.every, t.loader.steps_per_epoch))
        return t.progress.num_batches % every == 0 or t.progress.num_batches == t.num_batches

    def __call__(self, t: Training) -> dict[str, Any] | None:
        """Measure if it is due, and return the row."""
        if not self.is_due(t):
            return None
        row: dict[str, Any] = {
            "step": t.state.step,
            "epoch": t.progress.num_batches / t.loader.steps_per_epoch,
        }
        row |= {f"train_{name}": value for name, value in t.progress.take_means().items()}
        for name, (x, y) in self.splits.items():
            values = self.measure(t.model, x, y, self.attack, t.seed, t.name, name)
            row |= {f"{name}_{key}": value for key, value in values.items()}
        row["density"] = density(t.model, t.state.mask)
        row["layer_density"] = layer_density(t.model, t.state.mask)
        row["seconds"] = round(t.progress.seconds, 3)
        row = dist.from_first(row)
        alarm = self.detector(row)
        if alarm is not None:
            row["alarm"] = alarm
        if dist.is_first():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if alarm is not None:
                self.warn(alarm)
        return row


class Checkpointer:
    """Save a resume file when some seconds have passed since the last one."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds, self.last = folder, seconds, time.monotonic()

    def __call__(self, t: Training) -> None:
        """Save if it is due."""
        due = dist.is_first() and time.monotonic() - self.last >= self.seconds
        if due and t.progress.num_batches < t.num_batches:
            save_checkpoint(t, self.folder)
            self.last = time.monotonic()


class WeightKeeper:
    """Keep the weights at the lengths that later stages start from (`dense@500it`)."""

    def __init__(self, lengths: set[str], folder: Path, steps_per_epoch: int) -> None:
        self.at: dict[int, list[str]] = {}
        for length in sorted(lengths):
            self.at.setdefault(to_steps(length, steps_per_epoch), []).append(length)
        self.folder = folder

    def __call__(self, t: Training) -> None:
        """Save the weights if this is one of the lengths."""
        for length in self.at.get(t.progress.num_batches, ()) if dist.is_first() else ():
            save_tensors(kept_path(self.folder, length), t.model.state_dict())


def kept_path(folder: Path, length: str) -> Path:
    """Return where a stage keeps its weights at a length."""
    return folder / "kept" / f"{length}.safetensors"


def layer_density(model: nn.Module, mask: Mask) -> dict[str, float]:
    """Return the kept share of every prunable parameter."""
    return {n: float(mask[n].float().mean()) if n in mask else 1.0 for n in prunable(model)}


def measure(
    model: nn.Module, x: Tensor, y: Tensor, attack: Any, seed: int, *names: str
) -> dict[str, float]:
    """Return loss and accuracy and, with an attack, both under it.

    An image counts as robust if it is right before and after the attack; the attacked loss is over
    all images. Mode and gradients of the model stay as found.
    """
    training = model.training
    model.eval()
    sums = {"loss": 0.0, "accuracy": 0.0}
    if attack is not None:
        sums |= {"robust_loss": 0.0, "robust_accuracy": 0.0}
    try:
        for first in range(0, len(y), MEASURED_AT_ONCE):
            part_x, part_y = (s[first : first + MEASURED_AT_ONCE] for s in (x, y))
            loss, right = _judge(model, part_x, part_y)
            sums["loss"] += loss
            sums["accuracy"] += int(right.sum())
            if attack is not None:
                generator = stream(seed, *names, "monitor", first)
                network = searched(model, getattr(attack, "mode", "eval"))
                found = attack(network, part_x, part_y, generator)
                loss, still = _judge(model, found, part_y)
                sums["robust_loss"] += loss
                sums["robust_accuracy"] += int((right & still).sum())
    finally:
        model.train(training)
    return {name: value / len(y) for name, value in sums.items()}


@torch.no_grad()
def _judge(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Return the summed cross-entropy and which predictions are right."""
    logits = model(x)
    return float(nn.functional.cross_entropy(logits, y, reduction="sum")), logits.argmax(1) == y
