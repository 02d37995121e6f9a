"""What all models share: normalisation as a first layer, and building one from a recipe's spec.

Models take images in [0, 1] and return logits. Each family has its own file; none is known here.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.registry import registry
from wiry.core.rng import global_seed


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation per channel; the identity until `set_`.

    A layer of the model, so that a pixel budget means the same for every model and data set.

    Args:
        channels: number of image channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def set_(self, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Take over a mean and a standard deviation.

        Raises:
            ValueError: if their shapes do not fit or a standard deviation is not positive.
        """
        if mean.shape != self.mean.shape or std.shape != self.std.shape:
            raise ValueError(
                f"the model has {len(self.mean)} image channels, but mean and std have shapes "
                f"{tuple(mean.shape)} and {tuple(std.shape)}"
            )
        if not bool((std > 0).all()):
            raise ValueError(f"std must be positive, got {std.tolist()}")
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise images."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


class Classifier(nn.Module):
    """Base of the models: holds `normalize`, and whether statistics are to be put into it.

    Args:
        channels: number of image channels.
        normalize: if false, `normalize` stays the identity and `build_model` leaves it alone.
    """

    def __init__(self, channels: int, *, normalize: bool) -> None:
        super().__init__()
        self.normalize = Normalize(channels)
        self.normalizes = normalize


Init = Literal["kaiming", "glorot-uniform", "glorot-normal"]


def initialize_(model: nn.Module, init: Init = "kaiming") -> None:
    """Draw all convolution and linear weights anew from the global generator; biases become zero.

    Source: "kaiming" is He et al. 2015, eq. 10 (normal, variance 2 / fan-in); "glorot-uniform" and
    "glorot-normal" are Glorot and Bengio 2010, eq. 16 and its normal twin (variance
    2 / (fan-in + fan-out)). Differs: the last layer is drawn like the others.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if init == "kaiming":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif init == "glorot-uniform":
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build_model(
    spec: Any,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    names: tuple[str | int, ...] = ("init",),
    statistics: tuple[Float[Tensor, " c"], Float[Tensor, " c"]] | None = None,
) -> nn.Module:
    """Build and initialise the model a recipe's `model` describes; no global generator is touched.

    Args:
        input_shape: channels, height and width of an image.
        seed: seed of the run.
        names: name of the random stream for the initial weights; another name is a fresh draw.
        statistics: mean and standard deviation per channel, used unless the spec has
            `normalize: false`.

    Raises:
        UserError: for an unknown name or field, or an input that does not suit the model.
    """
    with global_seed(seed, *names):
        model = registry("model").build(spec, input_shape=input_shape, num_classes=num_classes)
    spec = registry("model").normalize(spec)
    model.built_from = dict(model=spec, input_shape=[*input_shape], num_classes=num_classes)
    if statistics is not None and getattr(model, "normalizes", True):
        model.normalize.set_(*statistics)
    return model


def require_size(input_shape: tuple[int, int, int], smallest: int, *, why: str) -> None:
    """Check that images are large enough for a model.

    Raises:
        ValueError: if height or width is below `smallest`.
    """
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise ValueError(
            f"images of {height}x{width} are too small: {why}, so at least {smallest}x{smallest} "
            "is needed; choose another model or larger images"
        )
