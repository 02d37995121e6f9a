"""An L1 penalty on activations around any objective: what a network spends on being active.

The activations are those of the loss's own forwards; the inner attack's are not looked at. How many
of them end at zero is measured in the evaluation.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.activity import activation_modules
from wiry.core.batch import Batch, Loss
from wiry.core.errors import UserError
from wiry.core.registry import component, registry
from wiry.objectives.base import Forward, check_weight
from wiry.objectives.natural import Natural

_OBJECTIVE = Natural()


@registry("objective").register("activity")
@dataclasses.dataclass(frozen=True)
class Activity:
    """Another objective plus `weight` times the mean absolute activation.

    Use: for activations that are sparse because they cost something; with a share to be met, search
    the weight or take the activations `k-wta` or `shifted-relu`. Source: Glorot, Bordes and Bengio
    2011, section 3.3. Differs: the mean over all activations of all layers in place of their sum,
    so the weight does not depend on the size of the network or the batch.

    Activations are the outputs of `nn.ReLU` and of modules with `is_activation = True`.
    """

    objective: component("objective") = _OBJECTIVE
    weight: float = 0.1  # of the mean absolute activation

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)

    @property
    def replays(self) -> int:
        """Return the replays of the inner objective."""
        return self.objective.replays

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`.

        Raises:
            UserError: if the model has no activation module.
        """
        meter = _Meter(model)

        def metered(x: Tensor) -> Tensor:
            with meter.watching():
                return forward(x)

        inner = self.objective(metered, model, batch, generator)
        activity = meter.mean()
        total = inner.total + self.weight * activity
        return Loss(total, {**inner.metrics, "activity": activity.detach()})

    def after_backward(self) -> None:
        """Hand on to the inner objective, if it has this hook."""
        if hook := getattr(self.objective, "after_backward", None):
            hook()

    def with_teacher(self, teacher: nn.Module) -> "Activity":
        """Return a copy whose inner objective has this teacher.

        Raises:
            UserError: if the inner objective does not learn from one.
        """
        take: Any = getattr(self.objective, "with_teacher", None)
        if take is None:
            raise UserError(
                f"objective 'activity': its inner objective {self.objective!r} does not learn from "
                "a teacher; remove `teacher` from the stage or choose one that does"
            )
        return dataclasses.replace(self, objective=take(teacher))


class _Meter:
    """Sums up absolute activations while it watches."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(activation_modules(model).values())
        self.sums: list[Tensor] = []
        self.count = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sum up in this block."""
        hooks = [module.register_forward_hook(self._add) for module in self.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def mean(self) -> Float[Tensor, ""]:
        """Return the mean over all that was seen, with its graph."""
        assert self.sums, "the objective made no forward through the model"
        return torch.stack(self.sums).sum() / self.count

    def _add(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.sums.append(output.abs().sum())
        self.count += output.numel()
