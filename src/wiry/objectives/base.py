"""What an objective is: a batch in, a scalar to minimise out. Pieces that several of them share.

The objective owns the inner attack, so the loop does not know of it. Objectives know nothing of
sparsity, optimizers or steps.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.batch import Batch, Loss
from wiry.core.inner import searched

Forward = Callable[[Tensor], Tensor]


class Objective(Protocol):
    """Turns a batch into a loss; a dataclass whose fields are its configuration.

    It leaves the model's mode and gradients as found, draws randomness from `generator` only, and
    computes its loss in the mode in which the loop has put the model.

    An objective may also have a method `after_backward(self) -> None`. The loop calls it after
    `loss.total.backward()` and before the optimizer's step, each time. It is for gradients that
    come out of that same backward pass, such as the one on the input in free adversarial training.
    What an objective keeps between calls must not be needed across batches: runs resume there.

    An objective whose `is_joinable` is true can be computed for several networks at once
    (`wiry.train.replicas`): it draws and searches in its field `attack` only, through
    `attack_images` on the whole batch, no operation depends on values, and it uses neither
    `batch.progress` nor replays.
    """

    @property
    def replays(self) -> int:
        """How many optimizer steps in a row are taken on one batch."""
        ...

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss and its metrics.

        The metrics are detached scalars: "accuracy" where clean logits are computed, and
        "robust_accuracy" where adversarial ones are.

        Args:
            forward: what the loss is computed with, such as the model wrapped for several devices.
            model: the bare model, for the inner attack.
        """
        ...


def accuracy(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the share of correct predictions, detached."""
    return (logits.detach().argmax(1) == y).float().mean()


def cross_entropy(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean cross-entropy with smoothed labels as a function of logits and labels."""
    return functools.partial(nn.functional.cross_entropy, label_smoothing=label_smoothing)


def attack_images(
    attack: Any, model: nn.Module, batch: Batch, generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Return adversarial images that the loss takes as constants.

    The search may be on a twin of the model that is faster, see `wiry.core.inner`.
    """
    network = searched(model, getattr(attack, "mode", "eval"))
    return attack(network, batch.x, batch.y, generator).detach()


def check_share(name: str, value: float) -> None:
    """Check a share that may not be the whole.

    Raises:
        ValueError: naming the field, if it is outside [0, 1).
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value:g}")


def check_weight(name: str, value: float) -> None:
    """Check a factor of a loss term.

    Raises:
        ValueError: naming the field, if it is negative.
    """
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value:g}")
