"""VGG networks in the form used for CIFAR: batch normalisation and one linear layer at the end."""

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup
from wiry.core.registry import component, registry
from wiry.models.base import Classifier, initialize_, require_size
from wiry.models.groups import chain_groups

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of each convolution, one tuple up to each pooling: configuration D of the paper."""


@registry("model").register("vgg16")
class VGG16(Classifier):
    """VGG-16 for CIFAR: 13 convolutions with batch normalisation and one linear layer.

    14,724,042 parameters for 3 channels and 10 classes at width 1. Source: Simonyan and Zisserman
    2015, configuration D. Differs: batch normalisation, convolutions without bias, and one linear
    layer on the mean over places (a single place for 32x32 images) in place of three.

    Args:
        width: multiplier of all channel counts, above 0; counts are rounded and at least 1.
        normalize: whether pixels are standardised first.
        activation: what follows each layer but the last, see `wiry list activation`.

    Raises:
        ValueError: if `width` is not positive or images are smaller than 32x32.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        width: float = 1.0,
        normalize: bool = True,
        activation: component("activation") = "relu",
    ) -> None:
        if width <= 0:
            raise ValueError(f"width must be above 0 (it multiplies the channels), got {width}")
        require_size(input_shape, 32, why="the network halves them five times")
        super().__init__(input_shape[0], normalize=normalize)
        self.features, new = nn.Sequential(), registry("activation").build(activation)
        num_in = input_shape[0]
        for stage in STAGES:
            for channels in stage:
                num_out = max(1, round(channels * width))
                convolution = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
                self.features.extend([convolution, nn.BatchNorm2d(num_out), new()])
                num_in = num_out
            self.features.append(nn.MaxPool2d(2))
        self.head = nn.Linear(num_in, num_classes)
        initialize_(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        return self.head(self.features(self.normalize(x)).mean((2, 3)))

    def channel_groups(self) -> list[ChannelGroup]:
        """Return the channels that can be removed: those of every convolution."""
        return chain_groups(self)
