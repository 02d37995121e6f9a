"""Which images are proven to keep their label anywhere in the ball, and by how much."""

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.bounds.crown import crown_ibp_margins
from wiry.bounds.graph import Statistics, trace
from wiry.bounds.interval import ball, ibp_margins, propagate
from wiry.core.errors import UserError

Method = Literal["ibp", "crown-ibp"]


def margins(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float,
    *methods: Method,
    statistics: Statistics | None = None,
) -> list[Float[Tensor, "n classes"]]:
    """Return for each method lower bounds on logit_y - logit_j over the linf ball; 0 at j = y.

    Layers are taken in the mode they are in. Differentiable in the parameters.

    Args:
        eps: radius, pixels in [0, 1]; the ball is cut to [0, 1].
        methods: one or more; what they have in common is computed once.
        statistics: of batch-norm layers in training mode, see `wiry.bounds.graph.trace`.

    Raises:
        UserError: for another method or radius, or a layer whose bounds are not known.
    """
    for method in methods:
        if method not in get_args(Method):
            raise UserError(f"bounds: no method {method!r}; known: {', '.join(get_args(Method))}")
    graph = trace(model, statistics)
    boxes = propagate(graph, ball(x, eps))
    functions = {"ibp": ibp_margins, "crown-ibp": crown_ibp_margins}
    return [functions[method](graph, boxes, y) for method in methods]


@torch.no_grad()
def certified(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float,
    method: Method = "ibp",
    *,
    batch_size: int = 128,
) -> Bool[Tensor, " n"]:
    """Return for which images the model provably says `y` anywhere in the linf ball.

    The model is judged in eval mode and left in the mode it was in. `crown-ibp` takes the larger of
    both bounds of each margin, so whatever `ibp` certifies it certifies too. False proves nothing.
    Bounds hold up to float rounding, which a margin above 0 by 1e-6 may not survive.

    Args:
        eps: radius, pixels in [0, 1]; the ball is cut to [0, 1].
        batch_size: images at once; `crown-ibp` holds a copy of every activation for each class.

    Raises:
        UserError: for another method or radius, or a layer whose bounds are not known.
    """
    methods: tuple[Method, ...] = ("ibp", method) if method == "crown-ibp" else (method,)
    parts = [torch.zeros(0, dtype=torch.bool, device=x.device)]
    with _eval_mode(model):
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            bound = torch.stack(margins(model, images, labels, eps, *methods)).amax(0)
            own = torch.arange(bound.shape[1], device=y.device) == labels[:, None]
            parts.append(((bound > 0) | own).all(1))
    return torch.cat(parts)


@contextlib.contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
