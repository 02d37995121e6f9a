"""A lower bound on linear functions of the logits, carried backward through the steps."""

from jaxtyping import Float
from torch import Tensor

from wiry.bounds.graph import Graph
from wiry.bounds.layers import Interval


def lower_bound(
    graph: Graph,
    boxes: list[Interval],
    rows: Float[Tensor, "n specs classes"],
    *,
    until: int = 0,
) -> Float[Tensor, "n specs"]:
    """Return lower bounds on `rows @ logits` over the box of step `until`.

    Each step turns the coefficients on its output into ones on its inputs; where branches part,
    they add up. What is left is a linear function of step `until`, whose minimum over the box is
    known. Differentiable.

    Args:
        boxes: of all steps; they decide the relaxation of each nonlinear layer.
        until: number of a step that every path to the logits passes; 0 is the image.
    """
    coefficients: dict[int, Tensor] = {len(graph.steps): rows}
    total = rows.new_zeros(rows.shape[:2])
    for number in range(len(graph.steps), until, -1):
        a = coefficients.pop(number, None)
        if a is None:  # a step that does not lead to the logits
            continue
        step = graph.steps[number - 1]
        parts, added = step.layer.backward(a, *(boxes[source] for source in step.inputs))
        total = total + added
        for source, part in zip(step.inputs, parts, strict=True):
            coefficients[source] = coefficients[source] + part if source in coefficients else part
    a, box = coefficients[until].flatten(2), boxes[until]
    center = (box.upper + box.lower).flatten(1) / 2
    radius = (box.upper - box.lower).flatten(1) / 2
    return total + (a @ center[:, :, None] - a.abs() @ radius[:, :, None]).squeeze(2)
