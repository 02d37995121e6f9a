"""One optimizer step for all replicas at once, with each one's own numbers and its own state.

The state stays where each replica's own optimizer looks for it, as views of stacked tensors, so
that resume files are those of single runs. Only what the settings in `optim` build is known here;
other optimizers take their own steps, one after the other.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wiry.train.fit import Training
from wiry.train.replicas.stack import Stack


def can_join(trainings: Sequence[Training]) -> bool:
    """Say whether one update can do what the optimizers of these trainings do."""
    kinds = {(type(t.optimizer), t.optimizer.defaults.get("nesterov")) for t in trainings}
    return len(kinds) == 1 and all(map(_is_plain, trainings))


def _is_plain(t: Training) -> bool:
    """Say whether a known optimizer trains all parameters of the model alike and nothing else."""
    groups, hooks = t.optimizer.param_groups, t.optimizer._optimizer_step_pre_hooks
    known = type(t.optimizer) in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    if type(t.optimizer) is torch.optim.Adam and groups[0]["weight_decay"]:
        return False  # coupled decay, which no settings build
    if not known or len(groups) != 1 or hooks:
        return False
    return list(map(id, groups[0]["params"])) == list(map(id, t.model.parameters()))


class JointUpdate:
    """Takes one step of the optimizers of all stacked networks.

    Source of the formulas: the optimizers of PyTorch 2.13; equal to them within rounding.
    """

    def __init__(self, stack: Stack, trainings: Sequence[Training]) -> None:
        self._stack, self._trainings = stack, trainings
        self._groups = [t.optimizer.param_groups[0] for t in trainings]
        first = trainings[0].optimizer
        self._is_adam = isinstance(first, torch.optim.Adam)  # AdamW is one
        keys = ("exp_avg", "exp_avg_sq") if self._is_adam else ("momentum_buffer",)
        self._state = {key: self._joined(key) for key in keys}
        self._steps = self._joined_steps()

    @torch.no_grad()
    def step(self) -> None:
        """Change the stacked weights by their gradients, with the rates of the moment."""
        numbers: dict[tuple[float, ...], dict[str, Tensor]] = {}
        for place, (name, weight) in enumerate(self._stack.weights.items()):
            if weight.grad is None:
                continue
            self._steps[:, place] += 1
            steps = tuple(self._steps[:, place].tolist())
            if steps not in numbers:
                numbers[steps] = self._numbers(steps, weight)
            shape = (-1,) + (1,) * (weight.dim() - 1)
            shaped = {key: value.view(shape) for key, value in numbers[steps].items()}
            (self._adam if self._is_adam else self._sgd)(name, weight, weight.grad, shaped)

    def _numbers(self, steps: Sequence[float], like: Tensor) -> dict[str, Tensor]:
        """Return what each replica multiplies with, one number each."""
        rows = [self._of_one(group, step) for group, step in zip(self._groups, steps, strict=True)]
        columns = torch.tensor([list(row.values()) for row in rows], dtype=like.dtype)
        return dict(zip(rows[0], columns.T.to(like.device), strict=True))

    def _of_one(self, group: dict[str, Any], step: float) -> dict[str, float]:
        if not self._is_adam:
            return {key: group[key] for key in ("lr", "momentum", "weight_decay")}
        first, second = group["betas"]
        return {
            "size": group["lr"] / (1 - first**step),
            "root": math.sqrt(1 - second**step),
            "eps": group["eps"],
            "first": 1 - first,
            "second": 1 - second,
            "decay": group["lr"] * group["weight_decay"],  # AdamW's; Adam is built without
        }

    def _adam(self, name: str, weight: Tensor, gradient: Tensor, by: dict[str, Tensor]) -> None:
        mean, square = self._state["exp_avg"][name], self._state["exp_avg_sq"][name]
        weight.sub_(weight * by["decay"])
        mean.lerp_(gradient, by["first"])
        square.lerp_(gradient.square(), by["second"])
        below = square.sqrt().div_(by["root"]).add_(by["eps"])
        weight.sub_(mean.div(below).mul_(by["size"]))

    def _sgd(self, name: str, weight: Tensor, gradient: Tensor, by: dict[str, Tensor]) -> None:
        gradient = gradient + weight * by["weight_decay"]
        buffer = self._state["momentum_buffer"][name]
        buffer.mul_(by["momentum"]).add_(gradient)
        if self._groups[0]["nesterov"]:
            buffer = gradient.add_(buffer * by["momentum"])
        weight.sub_(buffer * by["lr"])

    def _joined(self, key: str) -> dict[str, Tensor]:
        """Return the stacked state of this name; absent values are zero, as optimizers begin."""
        joined = {}
        for name, rows in self._rows_by_name():
            values = [t.optimizer.state[p].get(key) for t, p in rows]
            stacked = torch.stack(
                [
                    torch.zeros_like(p) if v is None else v
                    for (_, p), v in zip(rows, values, strict=True)
                ]
            ).detach()
            for (t, p), row in zip(rows, stacked.unbind(), strict=True):
                if self._is_adam or t.optimizer.param_groups[0]["momentum"]:
                    t.optimizer.state[p][key] = row
            joined[name] = stacked
        return joined

    def _joined_steps(self) -> Tensor:
        """Return how many steps each replica's (row's) parameters (columns) have taken."""
        columns = [
            [float(t.optimizer.state[p].get("step", 0.0)) for t, p in rows]
            for _, rows in self._rows_by_name()
        ]
        steps = torch.tensor(columns).T.contiguous()
        for column, (_, rows) in enumerate(self._rows_by_name()):
            for row, (t, p) in enumerate(rows):
                if self._is_adam:
                    t.optimizer.state[p]["step"] = steps[row, column]
        return steps

    def _rows_by_name(self) -> list[tuple[str, list[tuple[Training, Tensor]]]]:
        every = [dict(t.model.named_parameters()) for t in self._trainings]
        return [
            (name, [(t, own[name]) for t, own in zip(self._trainings, every, strict=True)])
            for name in self._stack.weights
        ]

    def release(self) -> None:
        """Give every optimizer memory of its own again."""
        for t in self._trainings:
            for state in t.optimizer.state.values():
                state.update({k: v.clone() for k, v in state.items() if isinstance(v, Tensor)})


def _rows(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a number for each replica, in a shape that multiplies its row."""
    shape = (-1,) + (1,) * (like.dim() - 1)
    return torch.tensor(values, dtype=like.dtype).to(like.device).view(shape)
