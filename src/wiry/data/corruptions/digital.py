"""What cameras and files do: low contrast, stretching, coarse pixels, compression.

Source of all: Hendrycks and Dietterich 2019. Parameters are those of CIFAR-10-C by severity.
Pillow resizes and compresses, as it did for the published files.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws
from wiry.data.corruptions.filters import blurred, sampled

_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # that is left
_ELASTIC = (  # strength and sigma of the waves, shift of the corners; shares of the side
    (0, 0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)
_PIXELS = (0.95, 0.9, 0.85, 0.75, 0.65)  # of the side
_QUALITY = (80, 65, 58, 50, 40)  # of JPEG


def contrast(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Pull each value towards the mean of its channel."""
    mean = x.double().mean((2, 3), keepdim=True)  # float32 sums would depend on the batch
    return ((x - mean) * _CONTRAST[severity - 1] + mean).float()


def elastic_transform(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Stretch the image by moving three of its points, then move pixels in smooth waves."""
    height, width = x.shape[2:]
    strength, sigma, shift = (min(height, width) * share for share in _ELASTIC[severity - 1])
    rows, columns = _stretched(draws, height, width, shift)
    x = sampled(x, rows, columns)
    waves = 2 * draws.uniform(2, height, width) - 1
    waves = strength * blurred(waves, sigma, truncate=3.0)
    rows = torch.arange(height)[:, None] + waves[:, 0]
    return sampled(x, rows, torch.arange(width) + waves[:, 1])


def pixelate(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Shrink the image and enlarge it again, in blocks."""
    from PIL import Image  # loaded where it is used: data sets are looked up without it

    height, width = x.shape[2:]
    share = _PIXELS[severity - 1]
    small = (max(1, int(width * share)), max(1, int(height * share)))

    box = Image.Resampling.BOX

    def coarse(image: Any) -> Any:
        return image.resize(small, box).resize((width, height), box)

    return _by_image(x, coarse)


def jpeg_compression(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Compress the image as JPEG and unpack it."""
    from PIL import Image

    def compressed(image: Any) -> Any:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=_QUALITY[severity - 1])
        return Image.open(file)

    return _by_image(x, compressed)


def _stretched(draws: Draws, height: int, width: int, shift: float) -> tuple[Tensor, Tensor]:
    """Return rows and columns at which to read: three points come from up to `shift` away."""
    side = min(height, width) / 3
    middle = torch.tensor([height // 2, width // 2])
    corners = middle + side * torch.tensor([[1, 1], [-1, 1], [-1, -1]])
    arrived = corners + shift * (2 * draws.uniform(3, 2) - 1)
    ones = torch.ones(len(draws), 3, 1)
    affine = torch.linalg.solve(torch.cat([arrived, ones], 2).double(), corners.double())
    affine = affine.float()[..., None, None]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return tuple(
        affine[:, 0, k] * rows + affine[:, 1, k] * columns + affine[:, 2, k] for k in (0, 1)
    )


def _by_image(
    x: Float[Tensor, "n c h w"], change: Callable[[Any], Any]
) -> Float[Tensor, "n c h w"]:
    """Put each image through Pillow in 256 levels."""
    from PIL import Image

    levels = x.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = []
    for image in levels:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        changed.append(np.asarray(change(picture)).reshape(image.shape))
    stacked = np.stack(changed) if changed else levels
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(255).contiguous()
