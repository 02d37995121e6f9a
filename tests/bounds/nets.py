"""Networks the bounds are tried on, with weights and statistics away from their initial values."""

import torch
from torch import Tensor, nn

from wiry.core.rng import stream
from wiry.models.base import build_model

MODELS = {
    "mlp": ({"name": "mlp", "widths": [16, 12]}, (1, 8, 8)),
    "cnn-small": ({"name": "cnn-small", "width": 4}, (1, 8, 8)),
    "resnet18": ({"name": "resnet18", "width": 4}, (3, 8, 8)),
    "lenet5": ({"name": "lenet5"}, (1, 28, 28)),
}
NUM_CLASSES = 5


def network(name: str, seed: int = 0) -> nn.Module:
    """Return a model in eval mode whose normalisations have random statistics and weights."""
    spec, shape = MODELS[name]
    generator = stream(seed, "net")

    def draw(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    channels = torch.zeros(shape[0])
    model = build_model(
        spec,
        input_shape=shape,
        num_classes=NUM_CLASSES,
        seed=seed,
        statistics=(draw(channels, 0.2, 0.6), draw(channels, 0.2, 0.5)),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(draw(module.running_mean, -0.3, 0.3))
            module.running_var.copy_(draw(module.running_var, 0.5, 2.0))
            module.weight.data.copy_(draw(module.weight, -1.0, 1.5))
            module.bias.data.copy_(draw(module.bias, -0.3, 0.3))
    return model.eval()


def images(name: str, num: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random images, some pixels near 0 and 1 so that the ball is cut, and labels."""
    generator = stream(seed, "images")
    x = torch.rand(num, *MODELS[name][1], generator=generator) * 1.2 - 0.1
    return x.clamp(0, 1), torch.randint(0, NUM_CLASSES, (num,), generator=generator)
