"""Common corruptions of images: noise, blur, weather and what cameras and files do to pictures.

Fifteen corruptions at five severities each, made here from any images in [0, 1], or read from the
published files of CIFAR-10-C (`official`). Each is a function in the file of its family; how a
network answers to them is `wiry.evaluation.corruption`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wiry.core.draws import Draws, draws_of
from wiry.core.errors import UserError, closest
from wiry.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from wiry.data.corruptions.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from wiry.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from wiry.data.corruptions.weather import brightness, fog, frost, snow

__all__ = ["CORRUPTIONS", "SEVERITIES", "check_corruptions", "corrupt"]

Corruption = Callable[[Tensor, int, Draws], Tensor]
"""Images (n, c, h, w), the severity, one stream an image -> images, perhaps beyond [0, 1]."""

CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
"""The published fifteen under their names in CIFAR-10-C, in the order of the paper."""

SEVERITIES = (1, 2, 3, 4, 5)


@torch.no_grad()
def corrupt(
    x: Float[Tensor, "n c h w"],
    name: str,
    severity: int,
    *,
    seed: int = 0,
    index: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Return images under a corruption, on the CPU, in [0, 1] and in 256 levels as files have them.

    Source: Hendrycks and Dietterich 2019, section 3; parameters of the severities as in CIFAR-10-C.
    Differs: made anew from the descriptions, so that results are near those on the published files
    and not equal to the last digit. Lengths hold for 32 pixels and grow with the shorter side of
    the image. Beyond the border lies the nearest pixel, and levels are rounded, not cut. `frost`
    is a drawn texture and no photograph. Grey images are as colour ones with equal channels.

    Args:
        name: see `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the random draws.
        index: place of each image in its data set; 0, 1, 2 ... if left out. With the seed it is
            all that an image's draws depend on.

    Raises:
        UserError: for a corruption or severity that there is not, or images of 2 channels and such.
    """
    check_corruptions([name], [severity])
    if x.shape[1] not in (1, 3):
        raise UserError(
            f"corruptions are for grey (1 channel) and colour images (3), got {x.shape[1]} channels"
        )
    index = torch.arange(len(x)) if index is None else index.cpu()
    draws = draws_of(seed, "corruption", name, severity, index=index)
    found = CORRUPTIONS[name](x.detach().float().cpu(), severity, draws)
    return found.clamp(0, 1).mul(255).round().div(255)


def check_corruptions(names: list[str], severities: list[int]) -> None:
    """Check that there are corruptions and severities of these names and numbers.

    Raises:
        UserError: naming the first that there is not.
    """
    for name in names:
        if name not in CORRUPTIONS:
            raise UserError(f"no corruption {name!r}{closest(name, CORRUPTIONS)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise UserError(f"the severity of a corruption is 1, 2, 3, 4 or 5, got {severity}")
