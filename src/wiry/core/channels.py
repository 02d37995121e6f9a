"""Which weights make a channel and which ones read it: what structured pruning removes together.

A model declares its groups itself, in a method `channel_groups()`; nothing is traced.
"""

import dataclasses
from typing import Any

from torch import nn

from wiry.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together in all the places named here.

    Attributes:
        name: what the group is called, such as `features.0`.
        size: number of channels.
        outputs: parameters and buffers with one entry (row, filter) a channel along dimension 0:
            weights, biases, and scale, shift and running statistics of norms.
        inputs: weights that read the channels along dimension 1, each with the number of
            consecutive columns a channel covers there (more than one after flattening).
    """

    name: str
    size: int
    outputs: tuple[str, ...]
    inputs: tuple[tuple[str, int], ...]


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """Return the model's channel groups.

    Raises:
        UserError: if the model does not declare them.
    """
    declared: Any = getattr(model, "channel_groups", None)
    if declared is None:
        raise UserError(
            f"{type(model).__name__} has no channel_groups(), so channels cannot be removed from "
            "it; add the method (see wiry.core.channels) or prune single weights"
        )
    return declared()
