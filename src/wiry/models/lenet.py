"""LeNet-5 in the Caffe form that the pruning literature uses."""

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup
from wiry.core.registry import component, registry
from wiry.models.base import Classifier, initialize_, require_size
from wiry.models.groups import chain_groups


@registry("model").register("lenet5")
class LeNet5(Classifier):
    """LeNet-5, Caffe form: 20 and 50 filters of 5x5, 500 hidden units.

    431,080 parameters for 28x28 grey images, as in Han et al. 2015 (learning weights and
    connections), table 3. Source: LeCun et al. 1998; Differs: max pooling, ReLU, more filters.

    Args:
        normalize: whether pixels are standardised first.
        activation: what follows each layer but the last, see `wiry list activation`.

    Raises:
        ValueError: if images are smaller than 16x16.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        normalize: bool = True,
        activation: component("activation") = "relu",
    ) -> None:
        require_size(input_shape, 16, why="two unpadded 5x5 convolutions, each pooled by 2")
        channels, height, width = input_shape
        super().__init__(channels, normalize=normalize)
        new = registry("activation").build(activation)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            new(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            new(),
            nn.MaxPool2d(2),
        )
        rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
        self.hidden = nn.Sequential(nn.Linear(50 * rows * columns, 500), new())
        self.head = nn.Linear(500, num_classes)
        initialize_(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        return self.head(self.hidden(self.features(self.normalize(x)).flatten(1)))

    def channel_groups(self) -> list[ChannelGroup]:
        """Return the channels that can be removed: filters of both layers and hidden units."""
        return chain_groups(self)
