"""Which layers of a traced network can follow a changed square, and how large it becomes there.

Decided from the network's structure and the shapes of its features, before any square is asked
about; `nearby` does what is planned here.
"""

import dataclasses
import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from wiry.attacks.windows import Reach, Size

_MOST_OF_A_LAYER = 0.6  # of its places; where more change, all are reckoned
_ADDING = (operator.add, operator.iadd, torch.add)
_BY_CHANNEL = (*_ADDING, operator.sub, operator.truediv, operator.mul)
_RECTIFIERS = (F.relu, torch.relu)
_ALONE = (nn.ReLU, nn.BatchNorm2d, nn.Identity, nn.Dropout)

Shapes = Mapping[fx.Node, torch.Size]


@dataclasses.dataclass
class Plan:
    """What is followed.

    Attributes:
        sizes: of the window at each node that follows it; others are reckoned whole.
        reaches: of the convolutions and poolings among them.
        kept: nodes whose features must be known outside the window, with the padding asked for.
        share_of_work: multiplications of convolutions that are left, as a share of all.
    """

    sizes: dict[fx.Node, Size]
    reaches: dict[fx.Node, Reach]
    kept: dict[fx.Node, Size]
    share_of_work: float


def plan(network: fx.GraphModule, shapes: Shapes, side: int) -> Plan:
    """Return what can be followed of squares of a side, given the shape of each node's value."""
    found = Plan({}, {}, {}, 1.0)
    for node in network.graph.nodes:
        _follow(network, node, shapes, side, found)
    for node in network.graph.nodes:
        for before in node.all_input_nodes:
            if before not in found.sizes:
                continue
            reach = found.reaches.get(node)
            if reach is not None or found.sizes.get(node) != found.sizes[before]:
                old = found.kept.get(before, (0, 0))
                new = (0, 0) if reach is None else reach.padding
                found.kept[before] = max(old[0], new[0]), max(old[1], new[1])
    found.share_of_work = _share_of_work(network, shapes, found)
    return found


def layer_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, if it does."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def features_before(node: fx.Node) -> list[fx.Node]:
    """Return the nodes that a node reads, without constants."""
    return [before for before in node.all_input_nodes if before.op != "get_attr"]


def _follow(network: fx.GraphModule, node: fx.Node, shapes: Shapes, side: int, found: Plan) -> None:
    if node.op == "placeholder":
        found.sizes[node] = (side, side)
    inputs = features_before(node)
    if not inputs or not all(before in found.sizes for before in inputs):
        return
    layer = layer_of(network, node)
    if (reach := _reach(layer)) is not None and len(node.args) == 1:
        whole = shapes[node][2], shapes[node][3]
        size = reach.grown(found.sizes[inputs[0]], whole)
        if math.prod(size) <= _MOST_OF_A_LAYER * math.prod(whole):
            found.sizes[node], found.reaches[node] = size, reach
    elif _is_pointwise(node, layer, inputs, shapes) or _is_sum(node, shapes):
        found.sizes[node] = max(found.sizes[before] for before in inputs)


def _reach(layer: nn.Module | None) -> Reach | None:
    if isinstance(layer, nn.Conv2d):
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        if not plain or _pair(layer.dilation) != (1, 1):
            return None
        return Reach(_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding))
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) and not layer.ceil_mode:
        if _pair(layer.padding) == (0, 0) and _pair(getattr(layer, "dilation", 1)) == (1, 1):
            return Reach(_pair(layer.kernel_size), _pair(layer.stride), (0, 0))
    return None


def _pair(value: Any) -> Size:
    down, across = value if isinstance(value, tuple) else (value, value)
    return int(down), int(across)


def _is_pointwise(
    node: fx.Node, layer: nn.Module | None, inputs: list[fx.Node], shapes: Shapes
) -> bool:
    """Say whether each number of the output depends on one of the input, and on its channel."""
    if layer is not None:
        return type(layer) in _ALONE and len(node.args) == 1
    if node.op != "call_function" or len(inputs) != 1 or node.args[0] is not inputs[0]:
        return False
    if node.target in _RECTIFIERS:
        return len(node.args) == 1
    if node.target not in _BY_CHANNEL or len(node.args) != 2 or node.kwargs:
        return False
    other = node.args[1]
    if isinstance(other, fx.Node):
        return other.op == "get_attr" and shapes[other][-2:] in (torch.Size(), torch.Size((1, 1)))
    return isinstance(other, int | float)


def _is_sum(node: fx.Node, shapes: Shapes) -> bool:
    terms = [term for term in node.args if isinstance(term, fx.Node)]
    if node.op != "call_function" or node.target not in _ADDING or node.kwargs:
        return False
    return len(terms) == len(node.args) == 2 and shapes[terms[0]] == shapes[terms[1]]


def _share_of_work(network: fx.GraphModule, shapes: Shapes, found: Plan) -> float:
    done = whole = 0.0
    for node, weight in _convolutions(network):
        places = shapes[node][2:]
        whole += weight.numel() * math.prod(places)
        done += weight.numel() * math.prod(found.sizes.get(node, places))
    return done / whole if whole else 1.0


def _convolutions(network: fx.GraphModule) -> Iterator[tuple[fx.Node, Tensor]]:
    for node in network.graph.nodes:
        layer = layer_of(network, node)
        if isinstance(layer, nn.Conv2d):
            yield node, layer.weight
