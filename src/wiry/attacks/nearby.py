"""A traced network's answers to images of which a small square has changed.

What the layers said of the images before is kept; only what the square reaches is reckoned again,
layer by layer, until that is most of a layer; from there on the network runs as it is. A search
that tries thousands of small squares spends a part of the multiplications. Values are made anew
from their inputs, never from differences, so nothing drifts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from wiry.attacks.nearby_plan import Shapes, features_before, layer_of, plan
from wiry.attacks.windows import Table, Window, put

_WORTH_IT = 0.7  # share of the multiplications that may be left
_SAME = 1e-3  # of the largest logit: another order of summation

Values = dict[fx.Node, Any]


class Nearby:
    """The layers' answers to some images, and what they become where a square changes.

    Args:
        network: traced, in eval mode.
        x: the images.
        side: of the squares.
    """

    def __init__(self, network: fx.GraphModule, x: Float[Tensor, "n c h w"], side: int) -> None:
        self.network, self.side = network, side
        self.plan = plan(network, _shapes(network, x[:1]), side)
        self.images = torch.arange(len(x))  # in the tables
        self.tables = dict[fx.Node, Table]()
        self.windows, self.asked = dict[fx.Node, Window](), self.images
        values: Values = {}
        for node in network.graph.nodes:
            values[node] = x if node.op == "placeholder" else _run(network, node, values)
            if node in self.plan.kept:  # copied now: a later node may write over it
                self.tables[node] = Table(values[node], self.plan.kept[node])

    @classmethod
    def of(cls, model: nn.Module, x: Float[Tensor, "n c h w"], side: int) -> "Nearby | None":
        """Return it if the model is traced, there is much to save, and the answers are the same.

        Decided by structure and by the answers, never by timings.
        """
        if not isinstance(model, fx.GraphModule) or x.device.type != "cpu" or not len(x):
            return None
        if plan(model, _shapes(model, x[:1]), side).share_of_work > _WORTH_IT:
            return None
        found = cls(model, x, side)
        return found if found._agrees(x) else None

    def answers(
        self,
        points: Float[Tensor, "m c h w"],
        images: Int[Tensor, " m"],
        top: Int[Tensor, " m"],
        left: Int[Tensor, " m"],
    ) -> Float[Tensor, "m classes"]:
        """Return the logits of points that are the images but for one square each.

        Args:
            images: which of the images each is near.
            top: first row of its square.
            left: first column of its square.
        """
        self.asked, values = self.images[images], Values()
        for node in self.network.graph.nodes:
            if node.op == "placeholder":
                square = _cut(points, top, left, self.side)
                value: Any = Window(square, top, left)
            elif node in self.plan.sizes:
                value = self._window(node, values)
            else:
                whole = {n: self._whole(n, values[n]) for n in node.all_input_nodes}
                value = _run(self.network, node, whole)
            values[node] = value
            if node in self.tables:
                self.windows[node] = value
        logits: Tensor = value
        return logits

    def keep(self, points: Int[Tensor, " k"]) -> None:
        """Let some of the points that were asked for last stand for their images from now on."""
        images = self.asked[points]
        for node, table in self.tables.items():
            new = self.windows[node]
            window = Window(new.values[points], new.top[points], new.left[points])
            table.write(images, window)

    def select(self, going: Tensor) -> None:
        """Go on with some of the images."""
        self.images = self.images[going]

    def _window(self, node: fx.Node, values: Values) -> Window:
        """Return what a node makes of the windows that it reads."""
        inputs = features_before(node)
        if node in self.plan.reaches:
            return self._seen(node, inputs[0], values[inputs[0]])
        size = self.plan.sizes[node]
        frame: Window = next(values[n] for n in inputs if self.plan.sizes[n] == size)
        framed = dict(values)
        for before in inputs:
            framed[before] = self._framed(before, values[before], frame).values
        return Window(_run(self.network, node, framed), frame.top, frame.left)

    def _seen(self, node: fx.Node, before: fx.Node, window: Window) -> Window:
        """Return the outputs of a convolution or a pooling that see a window."""
        reach, size, table = self.plan.reaches[node], self.plan.sizes[node], self.tables[before]
        inputs = table.shape[2], table.shape[3]
        whole = reach.outputs(inputs)
        top = reach.first(window.top, 0, size[0], whole[0])
        left = reach.first(window.left, 1, size[1], whole[1])
        down = top * reach.stride[0] - reach.padding[0]
        across = left * reach.stride[1] - reach.padding[1]
        patch = table.patch(self.asked, down, across, reach.looked_at(size))
        put(patch, window, down, across, cut=reach.skips(inputs))
        return Window(_slide(layer_of(self.network, node), patch.permute(0, 3, 1, 2)), top, left)

    def _framed(self, node: fx.Node, window: Window, frame: Window) -> Window:
        """Return a window as large as another one around it."""
        if window.size == frame.size:
            return window
        patch = self.tables[node].patch(self.asked, frame.top, frame.left, frame.size)
        put(patch, window, frame.top, frame.left, cut=False)
        return Window(patch.permute(0, 3, 1, 2), frame.top, frame.left)

    def _whole(self, node: fx.Node, value: Any) -> Any:
        """Return all of the features that a window belongs to."""
        if not isinstance(value, Window):
            return value
        table, zero = self.tables[node], torch.zeros_like(value.top)
        patch = table.patch(self.asked, zero, zero, (table.shape[2], table.shape[3]))
        put(patch, value, zero, zero, cut=False)
        return patch.permute(0, 3, 1, 2)

    def _agrees(self, x: Float[Tensor, "n c h w"]) -> bool:
        """Say whether answers are the network's, with squares in a corner, inside, at an end."""
        height, width = x.shape[2:]
        corners = ((0, 0), (height // 3, width // 2), (height - self.side, width - self.side))
        points = x[[0] * len(corners)].clone()
        for point, (top, left) in zip(points, corners, strict=True):
            point[:, top : top + self.side, left : left + self.side] = 0.5
        top, left = torch.tensor(corners).T
        wanted = self.network(points)
        found = self.answers(points, torch.zeros_like(top), top, left)
        return bool((found - wanted).abs().max() <= _SAME * wanted.abs().max())


def _shapes(network: fx.GraphModule, x: Tensor) -> Shapes:
    """Return the shape of each node's value; empty for what is no tensor."""
    values, shapes = Values(), dict[fx.Node, torch.Size]()
    for node in network.graph.nodes:
        values[node] = x if node.op == "placeholder" else _run(network, node, values)
        shapes[node] = getattr(values[node], "shape", torch.Size())
    return shapes


def _run(network: fx.GraphModule, node: fx.Node, values: Values) -> Any:
    """Return what a node makes of the values before it."""
    args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
    target: Any = node.target
    if node.op == "output":
        return args[0]
    if node.op == "get_attr":
        module, _, name = str(target).rpartition(".")
        return getattr(network.get_submodule(module), name)
    if node.op == "call_module":
        return network.get_submodule(target)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


def _slide(layer: nn.Module | None, patch: Tensor) -> Tensor:
    """Run a convolution or a pooling on patches that have their padding already."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(patch, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)
    assert layer is not None
    found: Tensor = layer(patch)
    return found


def _cut(points: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Return the changed squares of points."""
    reach = torch.arange(side)
    each = torch.arange(len(points))[:, None, None]
    down, across = (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]
    return points.permute(0, 2, 3, 1)[each, down, across].permute(0, 3, 1, 2)
