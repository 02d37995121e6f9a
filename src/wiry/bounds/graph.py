"""A network as a list of steps whose bounds are known, found by symbolic tracing.

Any network is taken that is built of the layers below, whatever its class; everything else is
refused by name, for a bound that silently skips a layer is none. The steps hold the model's
parameters, not copies, so gradients reach them; a graph is traced anew for each use.
"""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.fx.proxy import TraceError

from wiry.bounds.arithmetic import IN_PLACE_OPERATORS, Made, Place, function_layer, method_layer
from wiry.bounds.layers import Convolution, Dense, FixedMap, Layer, Scale
from wiry.bounds.nonlinear import MaxPool, Rectifier
from wiry.core.errors import UserError

Statistics = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and variance per channel by name of the batch-norm layer."""

_NORMS = nn.BatchNorm1d | nn.BatchNorm2d
_FIXED = nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.Flatten | nn.Identity
_DROPOUT = nn.Dropout | nn.Dropout2d


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: its name in the model, its layer, and the numbers of the steps it reads."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """Steps in order of execution. Number 0 is the image; step i of the list has number i + 1."""

    steps: list[Step]


def trace(model: nn.Module, statistics: Statistics | None = None) -> Graph:
    """Return the model as steps.

    Batch normalisation in eval mode takes its running statistics. In training mode, or without
    running ones, it takes those given: then the bounds are on the function with these statistics
    held fixed.

    Args:
        statistics: mean and biased variance of each batch-norm layer in training mode.

    Raises:
        UserError: naming the layer whose bounds are not known.
    """
    tracer = _Tracer()
    try:
        with _all_in_eval_mode(model):
            traced = tracer.trace(model)
    except (TypeError, ValueError, RuntimeError, AttributeError, TraceError) as error:
        first = str(error).split("\n")[0]
        raise UserError(
            f"bounds: {type(model).__name__} cannot be traced: {first}. Bounds need a network "
            "whose steps do not depend on the values in it"
        ) from error
    return _Builder(model, tracer.constants, statistics or {}).build(traced)


class _Proxy(fx.Proxy):
    """Traces `x += y` as what it is, where the base makes it `x = x + y`."""

    def _in_place(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)


class _Tracer(fx.Tracer):
    """Keeps constants to itself, where the base would write them into the model."""

    def __init__(self) -> None:
        super().__init__()
        self.constants: dict[str, Tensor] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = f"constant_{len(self.constants)}"
        self.constants[name] = a
        return self.create_node("get_attr", name, (), {})


@contextlib.contextmanager
def _all_in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Keep a module that updates itself in training mode from doing so while it is traced."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Builder:
    """Turns a trace into steps; `values` holds a step's number or a constant for each fx node."""

    def __init__(
        self, model: nn.Module, constants: dict[str, Tensor], statistics: Statistics
    ) -> None:
        self.model, self.constants, self.statistics = model, constants, statistics
        self.steps: list[Step] = []
        self.values: dict[fx.Node, Any] = {}

    def build(self, traced: fx.Graph) -> Graph:
        for node in traced.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise UserError(f"bounds: the model has a second input {node.name!r}")
                self.values[node] = Place(0)
            elif node.op == "get_attr":
                self.values[node] = self._constant(str(node.target))
            elif node.op == "output":
                self._finish(node)
            else:
                self._add(node)
        return Graph(self.steps)

    def _finish(self, node: fx.Node) -> None:
        value = self._resolve(node.args[0])
        if not isinstance(value, Place):
            raise UserError("bounds: the model does not return one tensor computed from its input")
        # the last step must be the output, also where steps that lead nowhere come after it
        if value.number != len(self.steps) or not self.steps:
            self.steps.append(Step("output", FixedMap(lambda x: x), (value.number,)))

    def _constant(self, name: str) -> Any:
        if name in self.constants:
            return self.constants[name]
        return functools.reduce(getattr, name.split("."), self.model)

    def _add(self, node: fx.Node) -> None:
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        name = str(node.target)
        try:
            if node.op == "call_module":
                found = Made(self._module_layer(name), (args[0],))
            elif node.op == "call_method":
                found = method_layer(name, args, kwargs)
            else:
                found = function_layer(node.target, args, kwargs)
        except (ValueError, TypeError) as error:
            raise UserError(f"bounds: {self._describe(node)}: {error}") from error
        if isinstance(found, Made):
            inputs = tuple(place.number for place in found.inputs)
            name = name if node.op == "call_module" else node.name
            self.steps.append(Step(name, found.layer, inputs))
            found = Place(len(self.steps))
            if self._is_in_place(node):  # whoever holds what was written to now sees the result
                held = {other for other, value in self.values.items() if value == args[0]}
                self.values.update(dict.fromkeys(held, found))
        self.values[node] = found

    def _is_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return getattr(self.model.get_submodule(str(node.target)), "inplace", False)
        name = getattr(node.target, "__name__", str(node.target))
        in_place = (name.endswith("_") and not name.endswith("__")) or name in IN_PLACE_OPERATORS
        return in_place or bool(node.kwargs.get("inplace", False))

    def _resolve(self, argument: Any) -> Any:
        return map_arg(argument, lambda node: self.values[node])

    def _describe(self, node: fx.Node) -> str:
        if node.op == "call_module":
            kind = type(self.model.get_submodule(str(node.target))).__name__
            return f"layer {node.target!r} ({kind})"
        inside = [name for name in node.meta.get("nn_module_stack", {}) if name]
        where = f" in layer {inside[-1]!r}" if inside else ""
        return f"{getattr(node.target, '__name__', node.target)}(){where}"

    def _module_layer(self, name: str) -> Layer:
        module = self.model.get_submodule(name)
        if isinstance(module, _NORMS):
            return self._norm_layer(name, module)
        if isinstance(module, _DROPOUT):
            if module.training and module.p > 0:
                raise ValueError("dropout has bounds in eval mode only; set its rate to 0")
            return FixedMap(lambda x: x)
        if isinstance(module, _FIXED):
            return FixedMap(module.forward)
        for kind, layer in _LAYERS.items():
            if isinstance(module, kind):
                return layer(module)
        raise ValueError(f"its bounds are not known; known: {', '.join(_known())}")

    def _norm_layer(self, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
        mean, variance = module.running_mean, module.running_var
        if module.training or mean is None or variance is None:
            if name not in self.statistics:
                raise ValueError("it is in training mode and its batch statistics are not given")
            mean, variance = self.statistics[name]
        scale = (variance + module.eps).rsqrt()
        if module.weight is not None:
            scale = scale * module.weight
        shift = -mean * scale
        if module.bias is not None:
            shift = shift + module.bias
        if isinstance(module, nn.BatchNorm2d):
            scale, shift = scale[:, None, None], shift[:, None, None]
        return Scale(scale, shift)


_LAYERS: dict[type[nn.Module], Callable[[Any], Layer]] = {
    nn.Linear: Dense,
    nn.Conv2d: Convolution,
    nn.ReLU: lambda _: Rectifier(),
    nn.MaxPool2d: MaxPool,
}


def _known() -> list[str]:
    kinds = [*_LAYERS, *_NORMS.__args__, *_FIXED.__args__, *_DROPOUT.__args__]
    return sorted(kind.__name__ for kind in kinds)
