"""A program of torch's operators as plain operations of the runtime, node by node.

What one operator becomes is in `operators`. What does not depend on the images is reckoned at once:
it is a tensor of the state that the graph refers to, or numbers in the graph.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from wiry.core.errors import UserError
from wiry.engine.operators import OPERATORS, RESHAPES, reshape
from wiry.engine.values import Constant, Unsupported, Value
from wiry.runtime.graph import INPUT, VERSION, checked_size
from wiry.runtime.kinds import KINDS, Fault, Reference

_COPIES = {"clone", "alias", "detach", "contiguous", "lift_fresh_copy"}


class Translation:
    """The operations of an exported program.

    Args:
        program: without in-place operators (`run_decompositions({})`).
        state: the network's tensors by name.

    Attributes:
        baked: names of the tensors whose values became numbers.

    Raises:
        UserError: naming the layer and the operator that cannot be translated.
    """

    def __init__(self, program: Any, state: Mapping[str, Tensor]) -> None:
        self.baked: set[str] = set()
        self._program = program
        self._shapes = {name: tuple(t.shape) for name, t in state.items()}
        self._rows: list[dict[str, Any]] = []
        self._values: dict[fx.Node, Any] = {}
        self._layer, self._output = "", INPUT
        self._batch: Any = None
        inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._input(node, inputs[node.name])
            elif node.op == "output":
                self._finish(node)
            else:
                self._values[node] = self._computed(node)

    def to_data(self, input_shape: list[int]) -> dict[str, Any]:
        """Return the operations that lead to the logits, as plain data."""
        needed, rows = {self._output}, []
        for row in reversed(self._rows):
            if row["output"] in needed:
                needed |= {*row["inputs"]}
                rows.append(row)
        return {
            "version": VERSION,
            "input": INPUT,
            "input_shape": input_shape,
            "output": self._output,
            "ops": rows[::-1],
        }

    def _input(self, node: fx.Node, spec: Any) -> Value | Constant:
        if spec.kind is not torch.export.graph_signature.InputKind.USER_INPUT:
            name = spec.target
            tensor = self._program.state_dict.get(name)
            if tensor is None:  # buffers that are not in the state, and literals
                tensor = self._program.constants[name]
            is_known = name in self._shapes
            sources = frozenset({name} if is_known else ())
            return Constant(tensor, name if is_known else None, sources)
        if self._batch is not None:
            raise UserError(f"the network has a second input, {node.name!r}")
        self._batch = node.meta["val"].shape[0]
        return Value(INPUT, tuple(node.meta["val"].shape[1:]))

    def _finish(self, node: fx.Node) -> None:
        kinds = [spec.kind.name for spec in self._program.graph_signature.output_specs]
        if kinds != ["USER_OUTPUT"]:
            raise UserError(
                "the network returns more than its logits, or changes its own tensors in eval mode"
            )
        value = self._values.get(node.args[0][0])  # type: ignore[index,arg-type]
        if not isinstance(value, Value) or value.name == INPUT or len(value.shape) != 1:
            raise UserError("the network does not return logits, one number a class and image")
        self._output = value.name

    def _computed(self, node: fx.Node) -> Any:
        """Return what a node computes, after the operations for it are added."""
        if node.target is operator.getitem:
            of, place = node.args
            return self._values[of][place]  # type: ignore[index]
        if isinstance(node.meta.get("val"), int | torch.SymInt):
            return node.meta["val"]
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UserError(f"{_layer_of(node)[1]}: aten.{name} draws random numbers in eval mode")
        values = [self._values[argument] for argument in node.all_input_nodes]
        if not any(isinstance(value, Value) for value in values):
            return self._constant(node, name)
        self._layer, described = _layer_of(node)
        try:
            value = self._operation(node, name)
            if isinstance(value, Value) and not value.is_flat and value.shape != self._shape(node):
                raise Unsupported(f"its output has the shape {self._shape(node)}; a ceil mode?")
            return value
        except (Unsupported, Fault) as error:
            raise UserError(f"{described}: aten.{name}: {error}") from error

    def _operation(self, node: fx.Node, name: str) -> Any:
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._values[n])
        if name in RESHAPES:
            return reshape(self._emit, args[0], self._shape(node))
        if name in ("_to_copy", "to") and node.meta["val"].dtype == torch.float32:
            return args[0]
        if name not in OPERATORS:
            raise Unsupported("the sparse runtime does not know this operator")
        try:
            return OPERATORS[name](self._emit, *args, **kwargs)
        except (TypeError, AttributeError) as error:
            raise Unsupported(f"not in this form ({error})") from error

    def _emit(
        self, kind: str, *inputs: Value, baked: frozenset[str] = frozenset(), **attributes: Any
    ) -> Value:
        """Add an operation and return what it makes."""
        shape = KINDS[kind].shape([value.shape for value in inputs], attributes, self._shapes)
        output, names = f"v{len(self._rows)}", [value.name for value in inputs]
        row = {"kind": kind, "name": self._layer, "inputs": names, "output": output}
        self._rows.append(row | attributes)
        self.baked |= baked
        return Value(output, checked_size(shape))

    def _shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape that torch gives an image's part of a value."""
        shape = node.meta["val"].shape
        if not shape or str(shape[0]) != str(self._batch):
            raise Unsupported("it mixes the images of a batch")
        if not all(isinstance(size, int) for size in shape[1:]):
            raise Unsupported("its shape depends on the number of images")
        return tuple(shape[1:])

    def _constant(self, node: fx.Node, name: str) -> Constant:
        """Reckon what does not depend on the images."""
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._values[n])
        parts = [self._values[argument] for argument in node.all_input_nodes]
        tensors = [(c.tensor if isinstance(c, Constant) else c) for c in (*args, *kwargs.values())]
        if any(isinstance(part, torch.SymInt) for part in parts):
            raise UserError(f"{_layer_of(node)[1]}: aten.{name} depends on the number of images")
        found = node.target(  # type: ignore[operator]
            *tensors[: len(args)], **dict(zip(kwargs, tensors[len(args) :], strict=True))
        )
        sources = frozenset[str]().union(*(c.sources for c in parts if isinstance(c, Constant)))
        return Constant(found, _reference(name, args), sources)


def _reference(name: str, args: tuple[Any, ...]) -> Reference:
    """Return how the graph refers to what an operator makes of constants, None if it cannot."""
    references = [c.reference for c in args if isinstance(c, Constant)]
    if name in _COPIES:
        return references[0]
    shapes = {c.tensor.shape for c in args if isinstance(c, Constant)}
    if name == "mul" and len(references) == 2 and len(shapes) == 1:
        first, second = references
        if isinstance(first, str) and isinstance(second, str):
            return {"product": [first, second]}
    return None


def _layer_of(node: fx.Node) -> tuple[str, str]:
    """Return the name of the layer that a node is from, and how to speak of it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    if not path:
        return kind or "network", f"the network's own forward ({kind})"
    return path, f"layer {path!r} ({kind})"
