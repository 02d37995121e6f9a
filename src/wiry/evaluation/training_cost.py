"""What a training costs in floating-point operations: counted once, times the images seen.

`cost` counts one image through a finished network; here one optimizer step of an objective is
counted, its attack included, and scaled over a stage. Nothing is timed, and what a sparsifier
computes on its own (scores, saliencies, drop and grow) is not counted: it is small beside the
attack for every method but the second-order ones, and the seconds of a run have it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from wiry.core.batch import Batch
from wiry.core.mask import prunable
from wiry.core.rng import stream
from wiry.evaluation.cost import count_multiplications
from wiry.evaluation.judge import buffers_kept


class FlopCounter(TorchDispatchMode):
    """Sum the operations of everything that runs inside the block.

    It has the formulas of `torch.utils.flop_counter.FlopCounterMode`, whose hooks on modules cannot
    be used here: they refuse `torch.autograd.grad` on an input, which is what attacks do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation and add its cost, if it has a formula."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


@dataclasses.dataclass(frozen=True)
class TrainingCost:
    """Operations of a training, two a multiply-accumulate.

    Attributes:
        dense: as if every weight took part, which is what dense kernels compute.
        sparse: with each layer's share scaled by the weights it had at the time; no kernel reaches
            it, it is the least a perfect one would need.
    """

    dense: float
    sparse: float

    def __add__(self, other: "TrainingCost") -> "TrainingCost":
        return TrainingCost(self.dense + other.dense, self.sparse + other.sparse)


def flops_per_image(
    model: nn.Module,
    objective: Any,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
) -> float:
    """Count the operations of one optimizer step, attack and backward pass included, an image.

    Matrix products and convolutions are counted, dense; the optimizer's own arithmetic is not.
    The model's mode, buffers and gradients come back as found.

    Args:
        objective: `(forward, model, batch, generator) -> Loss`.
        x: one batch; an attack that stops early for fooled images is counted as it ran on it.
    """
    training = model.training
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    generator = stream(0, "training-cost")
    try:
        with buffers_kept(model), FlopCounter() as counter:
            model.train()
            batch = Batch(x, y, torch.arange(len(y)))
            objective(model, model, batch, generator).total.backward()
    finally:
        model.train(training)
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return counter.total / len(y)


def layer_shares(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, float]:
    """Return each prunable weight's share of the operations of a forward pass, by name.

    The backward passes are taken to split over the layers as the forward pass does.
    """
    uses = count_multiplications(model, input_shape)
    counts = {name: uses.get(name, 0) * p.numel() for name, p in prunable(model).items()}
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def mean_density(rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> float:
    """Return the density over a stage, weighted by operations and by the steps it lasted.

    A row's density holds for the steps since the row before it.

    Args:
        rows: lines of metrics.jsonl in order, each with `step` and `layer_density`.
        shares: of `layer_shares`.
    """
    total, before = 0.0, 0
    for row in rows:
        densities = row["layer_density"]
        now = sum(share * densities.get(name, 1.0) for name, share in shares.items())
        total += (row["step"] - before) * now
        before = row["step"]
    return total / before if before else 1.0


def training_cost(
    per_image: float, num_images: float, rows: Sequence[Mapping[str, Any]], shares: dict[str, float]
) -> TrainingCost:
    """Return the cost of a stage.

    Args:
        per_image: operations of a step an image, see `flops_per_image`.
        num_images: images seen, each epoch and each replay counted.
        rows: the stage's lines of metrics.jsonl.
        shares: of `layer_shares`.
    """
    dense = per_image * num_images
    return TrainingCost(dense, dense * mean_density(rows, shares) if dense else 0.0)
