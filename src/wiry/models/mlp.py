"""Fully connected networks, LeNet-300-100 among them."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup
from wiry.core.registry import component, registry
from wiry.models.base import Classifier, Init, initialize_
from wiry.models.groups import chain_groups


@registry("model").register("mlp")
class MLP(Classifier):
    """Fully connected network with ReLU; LeNet-300-100 by default.

    Source: LeCun et al. 1998, section II-B. The 266,200 weights of Cosentino et al. 2019 (robust
    lottery tickets), section 4.2, are `bias: false, init: glorot-uniform, normalize: false`.

    Args:
        widths: units of each hidden layer; empty for a linear classifier.
        bias: whether layers have biases.
        init: distribution of the initial weights, see `initialize_`.
        normalize: whether pixels are standardised first.
        activation: what follows each layer but the last, see `wiry list activation`.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        widths: list[int] = [300, 100],  # noqa: B006 - never changed; a list as in the recipe
        bias: bool = True,
        init: Init = "kaiming",
        normalize: bool = True,
        activation: component("activation") = "relu",
    ) -> None:
        if any(width < 1 for width in widths):
            raise ValueError(f"widths must be at least 1, got {widths}")
        channels, height, width = input_shape
        super().__init__(channels, normalize=normalize)
        sizes = [channels * height * width, *widths]
        self.hidden, new = nn.Sequential(), registry("activation").build(activation)
        for num_in, num_out in itertools.pairwise(sizes):
            self.hidden.extend([nn.Linear(num_in, num_out, bias=bias), new()])
        self.head = nn.Linear(sizes[-1], num_classes, bias=bias)
        initialize_(self, init)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        return self.head(self.hidden(self.normalize(x).flatten(1)))

    def channel_groups(self) -> list[ChannelGroup]:
        """Return the channels that can be removed: the units of every hidden layer."""
        return chain_groups(self)
