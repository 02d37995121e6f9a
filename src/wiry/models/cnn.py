"""A small convolutional network for quick runs on a CPU."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup
from wiry.core.registry import component, registry
from wiry.models.base import Classifier, initialize_, require_size
from wiry.models.groups import chain_groups


@registry("model").register("cnn-small")
class SmallCNN(Classifier):
    """Three 3x3 convolutions with batch normalisation; trains on 8x8 digits in seconds.

    Own design, after no paper: `width`, `2 * width` and `2 * width` channels, the last two layers
    of stride 2, then the mean over places and one linear layer.

    Args:
        width: channels of the first layer.
        normalize: whether pixels are standardised first.
        activation: what follows each layer but the last, see `wiry list activation`.

    Raises:
        ValueError: if `width` is below 1 or images are smaller than 4x4.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        width: int = 16,
        normalize: bool = True,
        activation: component("activation") = "relu",
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        require_size(input_shape, 4, why="the network halves them twice")
        super().__init__(input_shape[0], normalize=normalize)
        new = registry("activation").build(activation)
        self.features = nn.Sequential(
            *_layer(input_shape[0], width, new, stride=1),
            *_layer(width, 2 * width, new, stride=2),
            *_layer(2 * width, 2 * width, new, stride=2),
        )
        self.head = nn.Linear(2 * width, num_classes)
        initialize_(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        return self.head(self.features(self.normalize(x)).mean((2, 3)))

    def channel_groups(self) -> list[ChannelGroup]:
        """Return the channels that can be removed: those of the three convolutions."""
        return chain_groups(self)


def _layer(
    num_in: int, num_out: int, new: Callable[[], nn.Module], *, stride: int
) -> list[nn.Module]:
    convolution = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(num_out), new()]
