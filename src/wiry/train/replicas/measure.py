"""The monitor's measurement of all replicas at once, on the images they share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core.rng import stream
from wiry.train.observe import MEASURED_AT_ONCE
from wiry.train.replicas.draws import JointDraws
from wiry.train.replicas.stack import Stack

Values = dict[str, float]


def measure_together(
    stack: Stack,
    x: Tensor,
    y: Tensor,
    attack: Any,
    streams: Sequence[tuple[int, str]],
    split: str,
) -> list[Values]:
    """Return for every network what `wiry.train.observe.measure` returns for it alone.

    Args:
        streams: every replica's seed and stage, which name its random streams.
        split: name of the split that the images are from.
    """
    totals: dict[str, Tensor] = {}

    def add(name: str, values: Tensor) -> None:
        totals[name] = totals.get(name, torch.zeros(())) + stack.parted(values).double().sum(1)

    was_training = stack.training
    stack.eval()
    try:
        for first in range(0, len(y), MEASURED_AT_ONCE):
            part = slice(first, first + MEASURED_AT_ONCE)
            images = _repeated(x[part], len(stack))
            labels = _repeated(y[part], len(stack))
            loss, right = _judge(stack, images, labels)
            add("loss", loss)
            add("accuracy", right)
            if attack is not None:
                generators = [stream(s, stage, split, "monitor", first) for s, stage in streams]
                draws = JointDraws(generators, len(y[part]))
                loss, still = _judge(stack, attack(stack, images, labels, draws), labels)
                add("robust_loss", loss)
                add("robust_accuracy", right & still)
    finally:
        stack.train(was_training)
    rows = {name: (total / len(y)).tolist() for name, total in totals.items()}
    return [{name: row[place] for name, row in rows.items()} for place in range(len(stack))]


def _repeated(values: Tensor, times: int) -> Tensor:
    return values.expand(times, *values.shape).flatten(0, 1)


@torch.no_grad()
def _judge(stack: Stack, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = stack(x)
    return nn.functional.cross_entropy(logits, y, reduction="none"), logits.argmax(1) == y
