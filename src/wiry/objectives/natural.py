"""Plain training: cross-entropy on the images as they are. No attack."""

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy, check_share, cross_entropy


@registry("objective").register("natural")
@dataclasses.dataclass(frozen=True)
class Natural:
    """Cross-entropy on the clean images."""

    label_smoothing: float = 0.0  # share of the label spread over all classes, in [0, 1)

    replays: ClassVar[int] = 1
    is_joinable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        logits = forward(batch.x)
        total = cross_entropy(self.label_smoothing)(logits, batch.y)
        return Loss(total, {"accuracy": accuracy(logits, batch.y)})
