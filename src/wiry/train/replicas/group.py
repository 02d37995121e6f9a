"""The replicas that take a step together: one attack, one backward pass, then each one's hooks.

What is the same for all is done on the stacked tensors: mask and optimizer, if no method interferes
and the optimizers are of a known kind. Otherwise every replica's own hooks and optimizer work on
its own views, as the loop for one would have it.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from wiry.core.batch import Batch
from wiry.core.mask import Mask
from wiry.core.rng import stream
from wiry.sparsify.base import Sparsifier
from wiry.train.fit import Observer, Training
from wiry.train.replicas.draws import JointDraws
from wiry.train.replicas.loss import losses
from wiry.train.replicas.stack import Stack
from wiry.train.replicas.update import JointUpdate, can_join


@dataclasses.dataclass(eq=False)
class Replica:
    """A training among others.

    Attributes:
        problem: why it ended early, if it did.
        batch: what it trains on next; None at the end of its stage.
    """

    training: Training
    observers: Sequence[Observer] = ()
    problem: str | None = None
    batch: Batch | None = None
    _rest: Iterator[Batch] = dataclasses.field(default_factory=lambda: iter(()))

    def draw(self) -> None:
        """Draw the next batch."""
        t = self.training
        self.batch = None
        if t.progress.num_batches < t.num_batches:
            self.batch = next(self._rest, None)
            if self.batch is None:
                epoch, first = divmod(t.progress.num_batches, t.loader.steps_per_epoch)
                self._rest = t.loader.epoch(epoch, first_step=first)
                self.batch = next(self._rest)


class Group:
    """Some replicas, stacked; `release` before they are trained in any other way."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)
        self.trainings = [replica.training for replica in replicas]
        self.stack = Stack([t.model for t in self.trainings])
        methods = [type(t.sparsifier) for t in self.trainings]
        plain = all(_leaves_gradients(method) for method in methods)
        self._update = None
        if plain and can_join(self.trainings):
            self._update = JointUpdate(self.stack, self.trainings)
        self._has_base_after = all(m.after_step is Sparsifier.after_step for m in methods)
        self._masks: list[Mask] = []
        self._kept: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._given: list[dict[str, Tensor]] = []

    def step(self) -> list[Replica]:
        """Take one step of every replica and return those whose loss is not finite any more."""
        for t in self.trainings:
            t.optimizer.param_groups[0]["lr"] = t.settings.learning_rate(t.state.progress())
            if self._update is None:
                t.sparsifier.before_forward(t.model, t.state)
                assert not _has_hooks(t.model), f"{t.sparsifier} needs `watches_layers = True`"
        self.stack.train()
        batch = self._batch()
        names = [(t.seed, t.name, "attack", t.state.step) for t in self.trainings]
        draws = JointDraws([stream(*name) for name in names], batch.y.shape[1])
        totals, metrics = losses(self.stack, self.trainings[0].objective, batch, draws)
        for weight in self.stack.weights.values():
            weight.grad = None
        totals.sum().backward()  # each network's row has gradients of its own loss only
        is_finite = totals.detach().isfinite().tolist()
        self._change(is_finite)
        self._add({"loss": totals.detach(), **metrics}, batch.y.shape[1])
        return [r for r, fine in zip(self.replicas, is_finite, strict=True) if not fine]

    def _batch(self) -> Batch:
        batches = [r.batch for r in self.replicas if r.batch is not None]
        assert len(batches) == len(self.replicas), "every replica has drawn a batch"
        return Batch(
            torch.stack([batch.x for batch in batches]),
            torch.stack([batch.y for batch in batches]),
            torch.stack([batch.index for batch in batches]),
        )

    def _change(self, is_finite: Sequence[bool]) -> None:
        """Route the gradients, step, and re-apply the masks; count the step.

        Methods do not see the gradients of a replica that is lost; its row may become anything.
        """
        if self._update is None:
            for t in self.trainings:
                t.optimizer.zero_grad(set_to_none=True)  # it may train other tensors
        if self._update is None or not self._has_base_after:
            self.stack.give_gradients()
        if self._update is not None:
            self._mask_(gradients=True)
            self._update.step()
            if self._has_base_after:
                self._mask_(gradients=False)
        for t, fine in zip(self.trainings, is_finite, strict=True):
            if fine:
                self._change_one(t)

    def _change_one(self, t: Training) -> None:
        if self._update is None:
            t.sparsifier.after_backward(t.model, t.state)
            t.optimizer.step()
        if self._update is None or not self._has_base_after:
            t.sparsifier.after_step(t.model, t.state)
        t.state.step += 1
        if t.average is not None:
            t.average.update(t.model, t.state.mask, t.state.progress())

    @torch.no_grad()
    def _mask_(self, *, gradients: bool) -> None:
        masks = [t.state.mask for t in self.trainings]
        if list(map(id, masks)) != list(map(id, self._masks)):
            self._masks, self._kept = masks, _stacked_masks(masks, self.stack)
        for name, kept in self._kept.items():
            weight = self.stack.weights[name]
            if not gradients:
                weight.mul_(kept)
            elif weight.grad is not None:
                weight.grad.mul_(kept)

    def _add(self, values: dict[str, Tensor], num: int) -> None:
        """Add a batch's metrics to the replicas' sums, which are views of the stacked ones."""
        values = values | {"count": torch.ones(len(self.replicas))}
        sums = [t.progress.sums for t in self.trainings]
        if not self._given or any(a is not b for a, b in zip(sums, self._given, strict=True)):
            self._sums = {}
            for name, value in values.items():
                rows = [own.get(name, torch.zeros(())).to(value) for own in sums]
                self._sums[name] = torch.stack(rows)
            for place, t in enumerate(self.trainings):
                t.progress.sums = {name: total[place] for name, total in self._sums.items()}
            self._given = [t.progress.sums for t in self.trainings]
        for name, value in values.items():
            self._sums[name].add_(value.detach(), alpha=num)

    def release(self) -> None:
        """Give every replica tensors of its own again."""
        self.stack.release()
        if self._update is not None:
            self._update.release()
        for t in self.trainings:
            t.progress.sums = {name: total.clone() for name, total in t.progress.sums.items()}


def _leaves_gradients(method: type[Sparsifier]) -> bool:
    """Say whether a method does no more to weights and gradients than to mask them."""
    return (
        method.before_forward is Sparsifier.before_forward
        and method.after_backward is Sparsifier.after_backward
    )


def _has_hooks(model: nn.Module) -> bool:
    """Say whether somebody waits for what passes through a layer: a stack would pass it by."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def _stacked_masks(masks: Sequence[Mask], stack: Stack) -> dict[str, Tensor]:
    """Return the masks of every tensor that any of them has; where one has none it is dense."""
    dense = {name: weight[0].detach().bool().fill_(True) for name, weight in stack.weights.items()}
    names = {name for mask in masks for name in mask}
    return {
        name: torch.stack([mask.get(name, dense[name]) for mask in masks]) for name in sorted(names)
    }
