"""Blur: out of focus, frosted glass, motion of the camera, and motion towards the picture.

Source of all: Hendrycks and Dietterich 2019. Parameters are those of CIFAR-10-C by severity; their
lengths are pixels of a 32 x 32 image.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws
from wiry.data.corruptions.filters import (
    blurred,
    filtered,
    moved,
    resized,
    scale_of,
    smeared,
    zoomed,
)

_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))  # radius, sigma of its edge
_GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # sigma, rounds of shuffling
_MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))  # radius, sigma
_ZOOM = (7, 12, 16, 21, 26)  # images that are averaged: enlarged by 1.00, 1.01, 1.02 ...


def defocus_blur(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Spread each pixel over a disk with a soft edge."""
    radius, sigma = _DEFOCUS[severity - 1]
    reach = math.floor(radius)
    offsets = range(-reach, reach + 1)
    disk = [[float(row**2 + column**2 <= radius**2) for column in offsets] for row in offsets]
    edge = [math.exp(-0.5 * (i / sigma) ** 2) for i in (-1, 0, 1)]
    soft = [[down * right for right in edge] for down in edge]
    scale = scale_of(x)
    return filtered(filtered(x, resized(disk, scale)), resized(soft, scale))


def glass_blur(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Blur, let pixels take their colour from a neighbour at random, blur again.

    Differs: the paper speaks of swapping. The program behind the published files walks from the
    lower right to the upper left, the neighbour is the same pixel or one up, left or both, and the
    swap of two rows of one array copies the neighbour's colour and loses the pixel's own. So it is
    here too, but up to the border. On larger images pixels wander further.
    """
    sigma, rounds = _GLASS[severity - 1]
    sigma, reach = scale_of(x) * sigma, max(1, round(scale_of(x)))
    found = blurred(x, sigma)
    for _ in range(rounds):
        steps = draws.uniform(2, *x.shape[2:]).mul(2 * reach).floor().long() - reach
        found = moved(found, steps[:, 0], steps[:, 1])
    return blurred(found, sigma)


def motion_blur(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Smear along a line within 45 degrees of the horizontal."""
    radius, sigma = (scale_of(x) * length for length in _MOTION[severity - 1])
    angle = (draws.uniform(1).flatten() - 0.5) * math.pi / 2
    return smeared(x, radius, sigma, angle)


def zoom_blur(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Average the image with ever more enlarged ones."""
    num = _ZOOM[severity - 1]
    total = x.clone()
    for step in range(num):
        total += zoomed(x, 1 + step / 100)
    return total / torch.tensor(num + 1.0)
