"""An objective for all replicas at once: one attack on all images, then each one's own loss."""

import dataclasses
from typing import Any

from torch import Tensor

from wiry.core.batch import Batch
from wiry.train.replicas.draws import JointDraws
from wiry.train.replicas.stack import Stack


@dataclasses.dataclass(frozen=True)
class _Given:
    """An attack whose images are there already."""

    images: Tensor

    def __call__(self, *arguments: object) -> Tensor:
        return self.images


def why_not(objective: Any) -> str | None:
    """Return why an objective cannot be computed for stacked networks, or None if it can."""
    if not getattr(objective, "is_joinable", False):
        return f"objective {objective} works on one network only"
    attack = getattr(objective, "attack", None)
    if attack is not None and not getattr(attack, "keeps_batch", False):
        return f"attack {attack} works on one network only"
    return None


def losses(
    stack: Stack, objective: Any, batch: Batch, draws: JointDraws
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return every network's loss, with graph, and its metrics, one row a network.

    Args:
        batch: the replicas' batches, each a row.
    """
    attack = getattr(objective, "attack", None)
    images = batch.x
    if attack is not None:
        x, y = batch.x.flatten(0, 1), batch.y.flatten()
        images = stack.parted(attack(stack, x, y, draws).detach())

    def of_one(forward: Any, x: Tensor, y: Tensor, index: Tensor, found: Tensor) -> Any:
        own = objective if attack is None else dataclasses.replace(objective, attack=_Given(found))
        loss = own(forward, stack.skeleton, Batch(x, y, index), None)  # it draws in its attack only
        return loss.total, loss.metrics

    return stack.each(of_one, batch.x, batch.y, batch.index, images)
