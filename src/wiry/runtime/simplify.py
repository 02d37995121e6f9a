"""A graph with its tensors as the shortest list of operations that computes the same.

Batch norms and normalisation go into the weights beside them, reckoned in float64; sums and
rectifiers into the operation before them. What is zero stays zero, so a sparse weight stays sparse.
Which operations come out depends on the graph alone, never on the values of its tensors, but for
numbers in the graph itself. Needs numpy.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wiry.runtime.graph import Graph, Op
from wiry.runtime.kinds import Reference

Vector = np.ndarray[Any, np.dtype[np.float64]]
Arrays = Mapping[str, np.ndarray[Any, Any]]

_WEIGHTED = ("conv2d", "linear")


@dataclasses.dataclass(eq=False)
class _Step:
    """One operation while it is worked on.

    Attributes:
        rows, columns: factors of a weight's outputs and inputs that are not multiplied in yet.
        bias: or the shift of an affine operation, whose scale is `rows`.
    """

    op: Op
    inputs: list[str]
    output: str
    rows: Vector
    columns: Vector
    bias: Vector
    weight: np.ndarray[Any, np.dtype[np.float32]]
    relu: bool = False

    @property
    def kind(self) -> str:
        return "affine" if self.op.kind == "batch_norm" else self.op.kind


def simplify(graph: Graph, arrays: Arrays) -> list[dict[str, Any]]:
    """Return the operations for the compiled core, each a dict with its arrays in float32.

    Weighted operations have `weight`, `bias` and `relu`, and a second input where a residual is
    added before the rectifier; `add` has `relu`. The last operation makes the logits.

    Args:
        arrays: what the graph refers to, by name.
    """
    work = _Work(graph)
    with np.errstate(all="ignore"):  # a network with nan in it has nan in its answers, as in torch
        for op in graph.ops:
            work.add(_step(op, arrays))
        return [_data(step) for step in work.steps]


def resolve(reference: Reference, arrays: Arrays) -> np.ndarray[Any, Any]:
    """Return the array that a reference names."""
    assert reference is not None
    if isinstance(reference, str):
        return arrays[reference]
    first, second = reference["product"]
    return arrays[first] * arrays[second]


class _Work:
    """The list so far, and who makes and who reads each value."""

    def __init__(self, graph: Graph) -> None:
        self.steps: list[_Step] = []
        self._last = graph.ops[-1].output
        self._makers: dict[str, _Step] = {}
        self._aliases: dict[str, str] = {}
        self._readers = collections.Counter(name for op in graph.ops for name in op.inputs)

    def add(self, step: _Step) -> None:
        """Add an operation, into an earlier one if it can be."""
        step.inputs = [self._aliases.get(name, name) for name in step.inputs]
        if self._does_nothing(step):
            source = step.inputs[0]
            self._aliases[step.output] = source
            self._readers[source] += self._readers[step.output] - 1
            return
        before = self._sole(step.inputs[0])
        if step.kind == "affine" and before and self._scaled(before, step):
            self._makers[step.output] = before
            before.output = step.output
            return
        if step.kind == "relu" and before and before.kind in (*_WEIGHTED, "add"):
            before.relu = True
            self._makers[step.output] = before
            before.output = step.output
            return
        if step.kind == "add" and (summand := self._summand(step)):
            self._remove(summand)
            (other,) = (name for name in step.inputs if name != summand.output)
            summand.inputs, summand.output = [summand.inputs[0], other], step.output
            step = summand
        elif step.kind in _WEIGHTED:
            self._absorb(step)
        self.steps.append(step)
        self._makers[step.output] = step

    def _sole(self, value: str) -> _Step | None:
        """Return what makes a value that has one reader."""
        return self._makers.get(value) if self._readers[value] == 1 else None

    def _remove(self, step: _Step) -> None:
        self.steps.remove(step)
        del self._makers[step.output]

    def _does_nothing(self, step: _Step) -> bool:
        if step.output == self._last:
            return False
        if step.kind == "flatten":
            before = self._makers.get(step.inputs[0])
            return before is not None and before.op.kind == "flatten"
        # numbers of the graph only: a batch norm may do nothing today and something tomorrow
        return step.op.kind == "affine" and bool((step.rows == 1).all() and (step.bias == 0).all())

    def _scaled(self, before: _Step, step: _Step) -> bool:
        """Put an affine operation into the one before it; say whether that was possible."""
        if before.kind not in (*_WEIGHTED, "affine") or before.relu or len(before.inputs) > 1:
            return False
        before.rows = before.rows * step.rows
        before.bias = before.bias * step.rows + step.bias
        return True

    def _summand(self, step: _Step) -> _Step | None:
        """Return the weighted operation that can add the other summand itself, the later one."""
        found = [s for name in step.inputs if (s := self._sole(name)) is not None]
        fit = [s for s in found if s.kind in _WEIGHTED and not s.relu and len(s.inputs) == 1]
        for summand in fit:
            summand.relu = False
        return max(fit, key=self.steps.index) if fit else None

    def _absorb(self, step: _Step) -> None:
        """Take an affine operation before a weight into it, where zeros at the border allow."""
        between = self._sole(step.inputs[0])
        flatten = between if between is not None and between.kind == "flatten" else None
        before = self._sole(flatten.inputs[0]) if flatten else between
        if before is None or before.kind != "affine":
            return
        if step.kind == "conv2d" and any(step.op.attributes["padding"]) and before.bias.any():
            return
        repeat = math.prod(before.op.shape[1:]) if step.kind == "linear" else 1
        scale, shift = (np.repeat(values, repeat) for values in (before.rows, before.bias))
        step.bias = step.bias + _constant_part(step, shift)
        step.columns = step.columns * scale
        self._remove(before)
        (flatten or step).inputs[0] = before.inputs[0]


def _step(op: Op, arrays: Arrays) -> _Step:
    none, weight = np.ones(0), np.empty(0, np.float32)
    rows, columns, bias = none, none, none
    own = op.attributes
    if op.kind in _WEIGHTED:
        weight = resolve(own["weight"], arrays)
        rows = np.ones(len(weight))
        columns = np.ones(weight.shape[1] * own.get("groups", 1))
        bias = _vector(own["bias"], arrays, len(weight), 0.0)
    elif op.kind == "batch_norm":
        mean, variance = (_vector(own[k], arrays, 0, 0.0) for k in ("mean", "variance"))
        rows = _vector(own["weight"], arrays, len(mean), 1.0)
        rows = rows / np.sqrt(variance + own["epsilon"])
        bias = _vector(own["bias"], arrays, len(mean), 0.0) - mean * rows
    elif op.kind == "affine":
        rows, bias = np.array(own["scale"], np.float64), np.array(own["shift"], np.float64)
    return _Step(op, list(op.inputs), op.output, rows, columns, bias, weight)


def _vector(reference: Reference, arrays: Arrays, size: int, default: float) -> Vector:
    if reference is None:
        return np.full(size, default)
    return resolve(reference, arrays).astype(np.float64)


def _constant_part(step: _Step, shift: Vector) -> Vector:
    """Return what a weight makes of inputs that are `shift` everywhere, before its row factors."""
    weight = step.weight.astype(np.float64)
    sums = weight.reshape(*weight.shape[:2], -1).sum(2)
    groups = step.op.attributes.get("groups", 1)
    parts = zip(np.split(sums, groups), np.split(shift, groups), strict=True)
    return np.concatenate([part @ own for part, own in parts])


def _data(step: _Step) -> dict[str, Any]:
    """Return an operation as the compiled core takes it."""
    data: dict[str, Any] = {
        "kind": step.kind,
        "name": step.op.name,
        "inputs": step.inputs,
        "output": step.output,
    }
    if step.kind == "affine":
        return data | {"scale": _single(step.rows), "shift": _single(step.bias)}
    if step.kind == "add":
        return data | {"relu": step.relu}
    if step.kind not in _WEIGHTED:
        return data | step.op.attributes
    data |= {"weight": _weight(step), "bias": _single(step.bias), "relu": step.relu}
    rest = {k: v for k, v in step.op.attributes.items() if k not in ("weight", "bias")}
    return data | rest


def _weight(step: _Step) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a weight with its factors in it."""
    weight, groups = step.weight, step.op.attributes.get("groups", 1)
    if (step.rows == 1).all() and (step.columns == 1).all():
        return _single(weight)
    per_row = np.repeat(step.columns.reshape(groups, -1), len(weight) // groups, axis=0)
    factors = step.rows[:, None] * per_row
    return _single(weight * factors.reshape(*factors.shape, *(1,) * (weight.ndim - 2)))


def _single(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(values, np.float32)
