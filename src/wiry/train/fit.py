"""The loop: the only place where a sparsifier's hooks fire. Observers may read, never write."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core import dist
from wiry.core.batch import Batch
from wiry.core.errors import Diverged
from wiry.core.inner import Twin, searching_on
from wiry.core.rng import stream
from wiry.core.state import SparseState
from wiry.data.loader import Loader
from wiry.sparsify.base import Sparsifier
from wiry.train.optim import OptimizerSettings


@dataclasses.dataclass
class Progress:
    """The part of a training that changes besides tensors of model, optimizer and sparsifier.

    Attributes:
        num_batches: batches done; with the loader's pure order this is the position in the data.
        sums: running sums of the training metrics since the last measurement, plus `count`.
        seconds: training time so far, over all interruptions.
    """

    num_batches: int = 0
    sums: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add(self, values: dict[str, Tensor], num: int) -> None:
        """Add a batch's metrics, weighted by its number of images."""
        for name, value in (values | {"count": torch.ones(())}).items():
            total = self.sums.get(name)
            self.sums[name] = value.detach() * num + (0 if total is None else total)

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call, over all ranks, and start anew."""
        sums, self.sums = self.sums, {}
        dist.average_(sums[name] for name in sorted(sums))
        count = float(sums.pop("count", torch.ones(())))
        return {name: float(value) / count for name, value in sums.items()}


@dataclasses.dataclass
class Training:
    """Everything the loop works on; observers get it after every batch.

    Attributes:
        identity: the stage identity, which a checkpoint must match.
        average: the running average of the weights, if the stage wants one.
        twin: what attacks search on in place of the model, see `wiry.core.inner`.
    """

    name: str
    identity: str
    seed: int
    model: nn.Module
    loader: Loader
    objective: Any
    sparsifier: Sparsifier
    state: SparseState
    settings: OptimizerSettings
    optimizer: torch.optim.Optimizer
    num_batches: int
    progress: Progress = dataclasses.field(default_factory=Progress)
    average: Any = None
    twin: Twin | None = None


Observer = Callable[[Training], Mapping[str, Any] | None]
"""May read, never write; a measurement that it returns is passed to the sparsifier."""


def fit(training: Training, observers: Sequence[Observer] = ()) -> None:
    """Train from where `training.progress` stands to the end of the stage.

    Raises:
        Diverged: if the loss is not finite any more.
    """
    t = training
    steps_per_epoch = t.loader.steps_per_epoch
    before = t.progress.seconds
    started = time.monotonic()
    while t.progress.num_batches < t.num_batches:
        epoch, first_step = divmod(t.progress.num_batches, steps_per_epoch)
        for drawn in t.loader.epoch(epoch, first_step=first_step):
            batch = _own_part(drawn, t.progress.num_batches / t.num_batches)
            t.model.train()
            for _ in range(t.objective.replays):
                values = _step(t, batch, len(drawn.y))
                t.progress.add(values, len(batch.y))
            t.progress.num_batches += 1
            t.progress.seconds = before + time.monotonic() - started
            for observe in observers:
                with searching_on(t.model, t.twin):
                    row = observe(t)
                if row is not None:
                    t.sparsifier.measured(t.model, t.state, row)


def _own_part(batch: Batch, progress: float) -> Batch:
    """Return this rank's images of a batch."""
    own = slice(dist.rank(), None, dist.world_size())
    return Batch(batch.x[own], batch.y[own], batch.index[own], progress)


def _step(t: Training, batch: Batch, num_images: int) -> dict[str, Tensor]:
    """Take one optimizer step and return the loss and the objective's metrics.

    With several ranks each has its part of the batch of `num_images`; gradients are averaged before
    the sparsifier sees them, so all take the same step. Running statistics are the first rank's.
    """
    rate = t.settings.learning_rate(t.state.progress())
    for group in t.optimizer.param_groups:
        group["lr"] = rate
    t.sparsifier.before_forward(t.model, t.state)
    ranks = (dist.rank(),) if dist.is_distributed() else ()
    generator = stream(t.seed, t.name, "attack", t.state.step, *ranks)
    with searching_on(t.model, t.twin):
        loss = t.objective(t.model, t.model, batch, generator)
    _check_finite(loss.total.detach(), t)
    clear_gradients(t.model, t.optimizer)
    (loss.total * (len(batch.y) * dist.world_size() / num_images)).backward()
    if after_backward := getattr(t.objective, "after_backward", None):
        after_backward()
    average_gradients_(t.model)
    t.sparsifier.after_backward(t.model, t.state)
    t.optimizer.step()
    t.sparsifier.after_step(t.model, t.state)
    dist.broadcast_buffers_(t.model)
    t.state.step += 1
    if t.average is not None:
        t.average.update(t.model, t.state.mask, t.state.progress())
    return {"loss": loss.total.detach(), **loss.metrics}


def _check_finite(total: Tensor, t: Training) -> None:
    total = total.clone()
    dist.average_([total])  # all ranks stop together
    if not torch.isfinite(total):
        raise Diverged(
            f"stage {t.name!r}: the loss is {float(total)} at step {t.state.step}; "
            "lower the learning rate or check the data"
        )


def average_gradients_(model: nn.Module) -> None:
    """Average the parameters' gradients over the ranks, in one message."""
    if not dist.is_distributed():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.average_([together])
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def clear_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Drop the gradients of the model's and of the optimizer's tensors."""
    optimizer.zero_grad(set_to_none=True)
    _drop(model.parameters())


def _drop(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
