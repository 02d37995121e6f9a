"""Adversarial weight perturbation: any objective, taken at the worst weights close by.

A wrapper: it knows nothing of what it wraps, but for the fields that hold an attack or another
objective. The model's parameters are never written to: the loss is computed with `w + v` in their
place for the length of one call, and its gradient arrives at `w`. So there is nothing to restore,
whatever goes wrong in between.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from wiry.core.batch import Batch, Loss
from wiry.core.dist import average_
from wiry.core.errors import UserError
from wiry.core.registry import component, registry
from wiry.core.signature import nested_kind, parameters_of
from wiry.objectives.base import Forward, check_share, check_weight
from wiry.objectives.trades import Trades

_OBJECTIVE = Trades()
_TINY = 1e-12  # a layer without gradient is not moved


@registry("objective").register("awp")
@dataclasses.dataclass(frozen=True)
class Awp:
    """Another objective at weights moved uphill by a share `gamma` of each layer's length.

    Source: Wu et al. 2020, section 4, with the one ascent step of their code: the same adversarial
    images for the ascent and for the loss, each weight tensor moved along its gradient by `gamma`
    times its length, biases and norms left alone. Differs: entries that are zero stay zero, so a
    pruned network stays pruned (an entry that is alive and exactly zero is not moved either); the
    ascent is on the whole objective and on the mean gradient of all ranks; the accuracies reported
    are those before the perturbation. Around `free` the perturbation of the image follows the
    gradient at the perturbed weights, as both come out of one backward pass.

    Published: TRADES with a WideResNet-34-10 on CIFAR-10 at 8/255, AutoAttack: 56.17 % with and
    53.08 % without it (RobustBench). Gamma is 0.005 around `trades` and 0.01 around `adversarial`.
    """

    objective: component("objective") = _OBJECTIVE
    """What is made robust to changes of the weights."""
    gamma: float = 0.005
    """Length of a layer's perturbation over the length of its weights."""
    warmup: float = 0.05
    """Share of the stage without perturbation; 10 of 200 epochs in the published TRADES-AWP."""

    _wrapped: Any = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _memos: tuple["_Memo", ...] = dataclasses.field(
        default=(), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_weight("gamma", self.gamma)
        check_share("warmup", self.warmup)
        memos: list[_Memo] = []
        object.__setattr__(self, "_wrapped", _with_memos(self.objective, memos))
        object.__setattr__(self, "_memos", tuple(memos))

    @property
    def replays(self) -> int:
        """Optimizer steps on each batch: those of what is wrapped."""
        return self._wrapped.replays

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss at the perturbed weights; see `wiry.objectives.base.Objective`."""
        for memo in self._memos:
            memo.forget()
        if self.gamma == 0 or batch.progress < self.warmup:
            return self._wrapped(forward, model, batch, generator)
        start = generator.get_state()
        with torch.enable_grad(), frozen_statistics(model):
            before = self._wrapped(model, model, batch, generator)
            shifts = weight_perturbation(model, before.total, gamma=self.gamma)
        end = generator.get_state()
        generator.set_state(start)  # both passes see the same noise
        for memo in self._memos:
            memo.rewind()
        moved = {f"model.{n}": p + shifts[n] for n, p in _weights(model).items() if n in shifts}
        inside = _Call(self._wrapped, model)
        after = functional_call(inside, moved, (forward, batch, generator), tie_weights=False)
        generator.set_state(end)  # not every objective draws again
        return Loss(after.total, before.metrics)

    def after_backward(self) -> None:
        """Pass the hook on to what is wrapped."""
        if hook := getattr(self._wrapped, "after_backward", None):
            hook()

    def with_teacher(self, teacher: nn.Module) -> "Awp":
        """Return a copy whose wrapped objective has the teacher.

        Raises:
            UserError: if what is wrapped takes none.
        """
        if not hasattr(self.objective, "with_teacher"):
            raise UserError(
                f"objective 'awp' wraps {self.objective!r}, which takes no teacher; "
                "leave `teacher` out"
            )
        return dataclasses.replace(self, objective=self.objective.with_teacher(teacher))


def weight_perturbation(
    model: nn.Module, loss: Float[Tensor, ""], *, gamma: float
) -> dict[str, Tensor]:
    """Return by name how far one ascent step of relative length `gamma` moves each weight tensor.

    Only trained tensors of two or more dimensions are moved, and in them only entries that are not
    zero. The gradient is averaged over the ranks.

    Source: Wu et al. 2020, section 4 (layer-wise relative size), from a perturbation of zero.
    """
    weights = _weights(model)
    if not weights:
        return {}
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    gradients = {n: g for n, g in zip(weights, found, strict=True) if g is not None}
    average_(gradients.values())
    shifts = {}
    with torch.no_grad():
        for name, gradient in gradients.items():
            weight = weights[name]
            alive = gradient * (weight != 0)
            scale = gamma * weight.norm() / alive.norm().clamp_min(_TINY)
            shifts[name] = alive.mul_(scale)
    return shifts


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are inside; each layer normalises in its own mode still."""
    layers = [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats and m.training
    ]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


class _Memo:
    """An attack that searches at the first pass over a batch and repeats its finds at the second.

    What it would have drawn is drawn: the generator comes to stand where the search left it.
    """

    def __init__(self, attack: Any) -> None:
        self._attack, self._place = attack, 0
        self._found: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attack, name)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self._place == len(self._found):
            images = self._attack(model, x, y, generator)
            self._found.append((images, generator.get_state()))
        images, state = self._found[self._place]
        generator.set_state(state)
        self._place += 1
        return images

    def rewind(self) -> None:
        self._place = 0

    def forget(self) -> None:
        self._found, self._place = [], 0


class _Call(nn.Module):
    """An objective's call as a module's, which is what parameters can be put in place for."""

    def __init__(self, objective: Any, model: nn.Module) -> None:
        super().__init__()
        self.objective, self.model = objective, model

    def forward(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Loss:
        return self.objective(forward, self.model, batch, generator)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() >= 2}


def _with_memos(objective: Any, memos: list[_Memo]) -> Any:
    """Return a copy of an objective whose attacks, at any depth, are memos; or itself if none."""
    changed: dict[str, Any] = {}
    for name, parameter in parameters_of(type(objective)).items():
        kind, value = nested_kind(parameter.annotation), getattr(objective, name, None)
        if kind == "attack" and value is not None:
            changed[name] = _Memo(value)
            memos.append(changed[name])
        elif kind == "objective" and value is not None:
            changed[name] = _with_memos(value, memos)
    if not changed:
        return objective
    inner = copy.copy(objective)  # not `replace`: what is no field, such as a teacher, comes along
    for name, value in changed.items():
        object.__setattr__(inner, name, value)
    return inner
