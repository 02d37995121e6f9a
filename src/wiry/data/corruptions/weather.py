"""Weather: snow, frost, fog and bright light.

Source of all: Hendrycks and Dietterich 2019. Parameters are those of CIFAR-10-C by severity; their
lengths are pixels of a 32 x 32 image.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws
from wiry.data.corruptions.filters import scale_of, smeared, zoomed

_SNOW = (  # mean and deviation of the flakes, zoom, least flake, radius, sigma, share of the image
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
_FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # of the image, of the frost
_FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))  # thickness, decay of its detail
_BRIGHTER = (0.05, 0.1, 0.15, 0.2, 0.3)  # of the largest channel
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
_NUM_CRYSTALS = 14  # on a picture and a rim of a fifth around it
_ICE = (0.80, 0.92, 1.0)  # red, green and blue of its shade


def snow(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Whiten the image and add falling flakes, and the same flakes turned around."""
    mean, deviation, zoom, least, radius, sigma, kept = _SNOW[severity - 1]
    flakes = zoomed(mean + deviation * draws.normal(1, *x.shape[2:]), zoom)
    flakes = flakes.masked_fill(flakes < least, 0).clamp(0, 1)
    angle = -math.pi / 4 - draws.uniform(1).flatten() * math.pi / 2
    fallen = smeared(flakes, scale_of(x) * radius, scale_of(x) * sigma, angle)
    whitened = torch.maximum(x, grey(x) * 1.5 + 0.5)
    return kept * x + (1 - kept) * whitened + fallen + fallen.rot90(2, (2, 3))


def frost(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Lay ice on the image.

    Differs: the published images show cuttings of six photographs of frost; here the ice is drawn.
    """
    kept, ice = _FROST[severity - 1]
    height, width = x.shape[2:]
    thickness = ice_texture(draws, height, width)[:, None]
    shade = torch.tensor(_ICE).view(1, 3, 1, 1)
    colour = thickness * (shade + (1 - shade) * thickness)
    return kept * x + ice * (grey(colour) if x.shape[1] == 1 else colour)


def fog(x: Float[Tensor, "n c h w"], severity: int, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Add a cloud and take the contrast that it costs."""
    thickness, decay = _FOG[severity - 1]
    height, width = x.shape[2:]
    cloud = plasma(draws, max(height, width), decay)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * cloud) * brightest / (brightest + thickness)


def brightness(
    x: Float[Tensor, "n c h w"], severity: int, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Raise the largest channel of each pixel by a constant; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + _BRIGHTER[severity - 1]).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1e-6)), raised)


def grey(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the luminance of colour images, and grey ones as they are."""
    if x.shape[1] == 1:
        return x
    red, green, blue = _LUMINANCE
    return red * x[:, :1] + green * x[:, 1:2] + blue * x[:, 2:]


def plasma(draws: Draws, side: int, decay: float) -> Float[Tensor, "n side side"]:
    """Return a cloud in [0, 1] for each image: midpoints displaced at ever smaller scales.

    Source: Fournier, Fussell and Carpenter 1982 (diamond-square), on a torus.

    Args:
        side: least side in pixels; the cloud's is the next power of two.
        decay: displacements shrink by its square each time the distance is halved.
    """
    side = max(2, 1 << (side - 1).bit_length())
    cloud, step, size = torch.zeros(len(draws), side, side), side, 1.0
    while step > 1:
        half, num = step // 2, side // step
        corners = cloud[:, ::step, ::step].clone()
        down, right = corners.roll(-1, 1), corners.roll(-1, 2)
        noise = size * (2 * draws.uniform(3, num, num) - 1)
        middles = (corners + down + right + down.roll(-1, 2)) / 4 + noise[:, 0]
        cloud[:, half::step, half::step] = middles
        across = corners + right + middles + middles.roll(1, 1)
        cloud[:, ::step, half::step] = across / 4 + noise[:, 1]
        along = corners + down + middles + middles.roll(1, 2)
        cloud[:, half::step, ::step] = along / 4 + noise[:, 2]
        step, size = half, size / decay**2
    cloud -= cloud.amin((1, 2), keepdim=True)
    return cloud / cloud.amax((1, 2), keepdim=True).clamp(min=1e-6)


def ice_texture(draws: Draws, height: int, width: int) -> Float[Tensor, "n h w"]:
    """Return the thickness of drawn ice in [0, 1] for each image: needles that meet at bright rims.

    Own design: the plane is parted among random seeds (cells of Worley 1996); each cell has needles
    in a direction of its own, bright where two cells meet, and a cloud makes all of it patchy.
    """
    seeds = draws.uniform(_NUM_CRYSTALS, 2) * 1.4 - 0.2
    turn, pitch, phase = draws.uniform(3, _NUM_CRYSTALS).unbind(1)
    rows = torch.arange(height).view(1, 1, -1, 1) / height - seeds[..., :1, None]
    columns = torch.arange(width).view(1, 1, 1, -1) / width - seeds[..., 1:, None]
    distance, cell = (rows**2 + columns**2).sqrt().topk(2, dim=1, largest=False)
    rim = torch.exp(-(distance[:, 1] - distance[:, 0]) / 0.04)
    turn, pitch, phase = (part[:, :, None, None] for part in (turn, pitch, phase))
    across = rows * (math.pi * turn).cos() + columns * (math.pi * turn).sin()
    patches = plasma(draws, max(height, width), 1.5)[:, :height, :width]
    bent = (3 + 4 * pitch) * across + phase + patches[:, None]
    needles = (2 * math.pi * bent).cos().gather(1, cell[:, :1])[:, 0] ** 2
    return (0.1 + 0.6 * patches + 0.35 * needles * patches + 0.3 * rim).clamp(0, 1)
