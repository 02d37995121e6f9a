"""Interval bound propagation: a box at every step, and margins with the last layers merged in."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.bounds.backward import lower_bound
from wiry.bounds.graph import Graph, Statistics, trace
from wiry.bounds.layers import Affine, Interval
from wiry.core.errors import UserError


def ball(x: Float[Tensor, "n c h w"], eps: float) -> Interval:
    """Return the images within `eps` of `x` in every pixel, pixels staying in [0, 1].

    Raises:
        UserError: if `eps` is not in [0, 1].
    """
    if not 0 <= eps <= 1:
        raise UserError(f"bounds: eps must be in [0, 1], as pixels are, got {eps:g}")
    return Interval((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))


def propagate(graph: Graph, images: Interval) -> list[Interval]:
    """Return the box of every step, that of the images first; the last is that of the logits.

    Differentiable. Source: Gowal et al. 2018, eq. 6 and 7. Arithmetic is in the images' precision
    and does not round outward, so bounds hold up to rounding.

    Raises:
        UserError: if a step mixes images or sizes do not fit.
    """
    boxes = [images]
    for step in graph.steps:
        try:
            boxes.append(step.layer.interval(*(boxes[number] for number in step.inputs)))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"bounds: step {step.name!r}: {error}") from error
    if boxes[-1].lower.dim() != 2:
        raise UserError(
            f"bounds: a model must return logits (n, classes), got {tuple(boxes[-1].lower.shape)}"
        )
    return boxes


def interval_bounds(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    eps: float,
    *,
    statistics: Statistics | None = None,
) -> list[tuple[str, Interval]]:
    """Return name and box of every step of a model, from the image to the logits.

    Args:
        eps: radius of the linf ball, pixels in [0, 1].
        statistics: see `wiry.bounds.graph.trace`.

    Raises:
        UserError: for a layer whose bounds are not known.
    """
    graph = trace(model, statistics)
    names = ["image", *(step.name for step in graph.steps)]
    return list(zip(names, propagate(graph, ball(x, eps)), strict=True))


def margin_rows(y: Int[Tensor, " n"], logits: Interval) -> Float[Tensor, "n classes classes"]:
    """Return for each image the rows onehot(y) - onehot(j): what the margins are of the logits."""
    identity = torch.eye(logits.lower.shape[1], dtype=logits.lower.dtype, device=y.device)
    return identity[y][:, None] - identity


def ibp_margins(
    graph: Graph, boxes: list[Interval], y: Int[Tensor, " n"]
) -> Float[Tensor, "n classes"]:
    """Return lower bounds on logit_y - logit_j from the boxes; exactly 0 at j = y.

    Source: Gowal et al. 2018, section 3, "elision of the last layer". Differs: all linear layers
    at the end are merged with the margins, not only the last, so a linear model has exact bounds.
    """
    last = len(graph.steps)
    while last > 0 and isinstance(graph.steps[last - 1].layer, Affine):
        (last,) = graph.steps[last - 1].inputs
    return lower_bound(graph, boxes, margin_rows(y, boxes[-1]), until=last)
