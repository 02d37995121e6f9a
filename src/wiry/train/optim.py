"""Optimizers with their learning-rate curve, as settings.

The loop sets the rate before each step.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor

from wiry.core.registry import registry

Decay = Literal["constant", "cosine", "linear", "step"]


class OptimizerSettings(Protocol):
    """What the loop needs of an optimizer component."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return a fresh optimizer."""
        ...

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after a share `progress` of the stage, in [0, 1]."""
        ...


def decayed(rate: float, decay: Decay, warmup: float, progress: float) -> float:
    """Return the learning rate: linear warm-up over a share `warmup`, then the decay.

    `step` divides by ten at 50 % and at 75 % of the stage (He et al. 2016).
    """
    if progress < warmup:
        return rate * progress / warmup
    left = (progress - warmup) / (1 - warmup)
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * left)),
        "linear": 1 - left,
        "step": 0.1 ** ((left >= 0.5) + (left >= 0.75)),
    }
    return rate * factor[decay]


def with_l1(optimizer: torch.optim.Optimizer, l1: float) -> torch.optim.Optimizer:
    """Let an optimizer add the gradient of an L1 penalty, `l1 * sign(w)`, before each step.

    Only tensors of two or more dimensions are penalised. A pruned weight is zero and stays so.
    """

    def add_penalty(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.dim() >= 2:
                    parameter.grad.add_(parameter.detach().sign(), alpha=l1)

    if l1:
        optimizer.register_step_pre_hook(add_penalty)
    return optimizer


def _check(lr: float, warmup: float, l1: float) -> None:
    if lr <= 0:
        raise ValueError(f"lr must be above 0, got {lr:g}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the stage in [0, 1), got {warmup:g}")
    if l1 < 0:
        raise ValueError(f"l1 must be 0 or more, got {l1:g}")


@registry("optimizer").register("adam")
@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015); with weight decay it is AdamW (decoupled)."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    decay: Decay = "constant"
    warmup: float = 0.0
    """Share of the stage over which the rate rises from 0."""
    l1: float = 0.0
    """Weight of an L1 penalty on the weights (not on biases and norms)."""

    def __post_init__(self) -> None:
        _check(self.lr, self.warmup, self.l1)

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return a fresh optimizer."""
        kind = torch.optim.AdamW if self.weight_decay else torch.optim.Adam
        return with_l1(
            kind(list(parameters), lr=self.lr, weight_decay=self.weight_decay, foreach=True),
            self.l1,
        )

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after a share `progress` of the stage."""
        return decayed(self.lr, self.decay, self.warmup, progress)


@registry("optimizer").register("sgd")
@dataclasses.dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and (coupled) weight decay."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    decay: Decay = "cosine"
    warmup: float = 0.0
    """Share of the stage over which the rate rises from 0."""
    l1: float = 0.0
    """Weight of an L1 penalty on the weights (not on biases and norms)."""

    def __post_init__(self) -> None:
        _check(self.lr, self.warmup, self.l1)

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return a fresh optimizer."""
        return with_l1(
            torch.optim.SGD(
                list(parameters),
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
                foreach=True,
            ),
            self.l1,
        )

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after a share `progress` of the stage."""
        return decayed(self.lr, self.decay, self.warmup, progress)
