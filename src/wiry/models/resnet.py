"""Residual networks in the form used for small images: 3x3 stem, no pooling before the blocks."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup
from wiry.core.registry import component, registry
from wiry.models.base import Classifier, initialize_, require_size
from wiry.models.groups import group_of


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them.

    Source: He et al. 2016, figure 2; the shortcut is a 1x1 convolution where the shape changes
    (their option B), else the identity.

    Args:
        num_in: channels that come in.
        num_out: channels that go out.
        stride: stride of the first convolution and of the shortcut.
        new: makes an activation.
    """

    def __init__(
        self, num_in: int, num_out: int, *, stride: int, new: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.active1 = nn.BatchNorm2d(num_out), new()
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2, self.active2 = nn.BatchNorm2d(num_out), new()
        self.shortcut = nn.Sequential()
        if stride != 1 or num_in != num_out:
            projection = nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False)
            self.shortcut.extend([projection, nn.BatchNorm2d(num_out)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Return the block's features."""
        inner = self.bn2(self.conv2(self.active1(self.bn1(self.conv1(x)))))
        return self.active2(inner + self.shortcut(x))


@registry("model").register("resnet18")
class ResNet18(Classifier):
    """ResNet-18 for small images: 3x3 stem, no max pooling.

    11,173,962 parameters for 3 channels and 10 classes at the default width. Source: He et al.
    2016, table 1, column 18. Differs: the stem is one 3x3 convolution of stride 1 without pooling,
    as is common for CIFAR.

    Args:
        width: channels of the first stage; the stages have 1, 2, 4 and 8 times as many.
        normalize: whether pixels are standardised first.
        activation: what follows each layer but the last, see `wiry list activation`.

    Raises:
        ValueError: if `width` is below 1 or images are smaller than 8x8.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        width: int = 64,
        normalize: bool = True,
        activation: component("activation") = "relu",
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        require_size(input_shape, 8, why="the network halves them three times")
        super().__init__(input_shape[0], normalize=normalize)
        self.conv1 = nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False)
        new = registry("activation").build(activation)
        self.bn1, self.active1 = nn.BatchNorm2d(width), new()
        self.blocks = nn.Sequential()
        num_in = width
        for factor, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
            self.blocks.append(BasicBlock(num_in, factor * width, stride=stride, new=new))
            self.blocks.append(BasicBlock(factor * width, factor * width, stride=1, new=new))
            num_in = factor * width
        self.head = nn.Linear(num_in, num_classes)
        initialize_(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        features = self.blocks(self.active1(self.bn1(self.conv1(self.normalize(x)))))
        return self.head(features.mean((2, 3)))

    def channel_groups(self) -> list[ChannelGroup]:
        """Return the channels that can be removed: inside each block, and those of each stage.

        What blocks add up has to keep its places, so the stem and all blocks of a stage share one
        group; a block that projects its shortcut begins the next one.
        """
        groups, stage = [], ("stem", ["conv1", "bn1"], [])
        for i, block in enumerate(self.blocks):
            path = f"blocks.{i}"
            stage[2].append(f"{path}.conv1")
            assert isinstance(block, BasicBlock)
            if len(block.shortcut) > 0:
                stage[2].append(f"{path}.shortcut.0")
                groups.append(group_of(self, stage[0], writers=stage[1], readers=stage[2]))
                stage = (path, [f"{path}.shortcut.0", f"{path}.shortcut.1"], [])
            stage[1].extend([f"{path}.conv2", f"{path}.bn2"])
            inner = [f"{path}.conv1", f"{path}.bn1"]
            groups.append(group_of(self, f"{path}.conv1", writers=inner, readers=[f"{path}.conv2"]))
        groups.append(group_of(self, stage[0], writers=stage[1], readers=[*stage[2], "head"]))
        return groups
