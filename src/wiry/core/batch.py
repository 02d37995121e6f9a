"""What the loop hands to an objective and what it gets back."""

import dataclasses

from jaxtyping import Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch: images in [0, 1], labels, and each image's index in the training split.

    Attributes:
        progress: share of the stage that is done when the batch is drawn, for ramps in objectives.
    """

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    index: Int[Tensor, " n"]
    progress: float = 0.0


@dataclasses.dataclass(frozen=True)
class Loss:
    """The scalar to minimise (with graph) and detached scalars to log."""

    total: Float[Tensor, ""]
    metrics: dict[str, Tensor]
