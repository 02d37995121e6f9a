"""The network that is measured, with what engines need to write it."""

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.mask import Mask, prunable
from wiry.core.rng import stream
from wiry.engine.lower import lower
from wiry.runtime.graph import INPUT, Graph
from wiry.runtime.simplify import simplify

_NUM_CALIBRATION = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network to be run by engines.

    Attributes:
        model: in eval mode on the CPU; what is masked is zero.
        mask: which weights are there.
        input_shape: of one image.
        images: of the network's own kind, to choose the ranges of int8 by; None: random pixels.
    """

    model: nn.Module
    mask: Mask
    input_shape: tuple[int, ...]
    images: Float[Tensor, "n c h w"] | None = None

    @functools.cached_property
    def graph(self) -> Graph:
        """The network's operations.

        Raises:
            UserError: naming a layer that the runtime does not know.
        """
        return lower(self.model, self.input_shape).graph

    def operations(self) -> list[dict[str, Any]]:
        """Return the simplified operations, batch norm in the weights, see `simplify`."""
        state = {k: v.detach().numpy() for k, v in self.model.state_dict().items()}
        return simplify(self.graph, state)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each value of the graph."""
        return {INPUT: self.input_shape} | {op.output: op.shape for op in self.graph.ops}

    def calibration(self) -> Float[Tensor, "n c h w"]:
        """Return the images that int8 ranges are chosen by."""
        if self.images is not None:
            return self.images[:_NUM_CALIBRATION]
        return self.random_images(_NUM_CALIBRATION)

    def random_images(self, number: int) -> Float[Tensor, "n c h w"]:
        """Return images of random pixels: time does not depend on what is on them."""
        return torch.rand(number, *self.input_shape, generator=stream(0, "bench", "images"))

    def num_nonzero(self) -> int:
        """Count the prunable weights that are not zero."""
        return sum(int(weight.count_nonzero()) for weight in prunable(self.model).values())
