"""What the corruptions are made of: sums of shifted images, and images read at other places.

Sums are taken over taps one by one and not by a convolution, which would choose its order of
summation by the size of the batch: an image must not depend on the others.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

REFERENCE_SIDE = 32  # pixels; the parameters of CIFAR-10-C are for this


def scale_of(x: Float[Tensor, "n c h w"]) -> float:
    """Return the factor for lengths in pixels: the shorter side over 32."""
    return min(x.shape[2:]) / REFERENCE_SIDE


def blurred(
    x: Float[Tensor, "n c h w"], sigma: float, *, truncate: float = 4.0
) -> Float[Tensor, "n c h w"]:
    """Return images under a Gaussian blur of `sigma` pixels, cut at `truncate` sigmas."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return x
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    for dim in (2, 3):
        length = x.shape[dim] - 2 * radius
        parts = (w / sum(weights) * x.narrow(dim, i, length) for i, w in enumerate(weights))
        x = _added(parts)
    return x


def filtered(x: Float[Tensor, "n c h w"], kernel: list[list[float]]) -> Float[Tensor, "n c h w"]:
    """Return images under a square kernel of odd side, whose weights are brought to the sum 1."""
    radius, total = len(kernel) // 2, sum(map(sum, kernel))
    height, width = x.shape[2:]
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    return _added(
        weight / total * x[:, :, row : row + height, column : column + width]
        for row, weights in enumerate(kernel)
        for column, weight in enumerate(weights)
        if weight
    )


def resized(kernel: list[list[float]], scale: float) -> list[list[float]]:
    """Return a square kernel of odd side for images that are `scale` times as large (bilinear)."""
    reach = len(kernel) // 2
    half = math.ceil(scale * (reach + 1)) - 1 if scale > 1 else math.ceil(scale * reach)
    spread = [
        [max(0.0, 1 - abs(o - scale * i) / max(scale, 1)) for i in range(-reach, reach + 1)]
        for o in range(-half, half + 1)
    ]
    table = torch.tensor(spread, dtype=torch.float64)
    return (table @ torch.tensor(kernel, dtype=torch.float64) @ table.T).tolist()


def moved(
    x: Float[Tensor, "n c h w"], down: Int[Tensor, "n p q"], right: Int[Tensor, "n p q"]
) -> Float[Tensor, "n c h w"]:
    """Return at each place the pixel so many rows down and columns to the right of it.

    Args:
        down: rows for each pixel, or for the whole image (p and q are 1 then).
        right: columns, likewise.
    """
    height, width = x.shape[2:]
    rows = (torch.arange(height)[:, None] + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    places = (rows * width + columns).expand(len(x), height, width).flatten(1)
    taken = x.flatten(2).gather(2, places[:, None].expand(-1, x.shape[1], -1))
    return taken.view(x.shape)


def smeared(
    x: Float[Tensor, "n c h w"], radius: float, sigma: float, angle: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Return images moved along a line: half a Gaussian of `sigma` pixels to one side.

    Args:
        radius: half of the length of the line in pixels.
        angle: of each image's line, in radians, clockwise from the right.
    """
    length = 2 * max(1, math.ceil(radius)) + 1
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(length)]
    down, right = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return _added(
        weight / sum(weights) * moved(x, (i * down).round().long(), (i * right).round().long())
        for i, weight in enumerate(weights)
    )


def sampled(
    x: Float[Tensor, "n c h w"], rows: Float[Tensor, "#n h w"], columns: Float[Tensor, "#n h w"]
) -> Float[Tensor, "n c h w"]:
    """Return images read between pixels (bilinear), mirrored at the border pixels.

    Args:
        rows: at which row each pixel is read, counted from 0.
        columns: at which column.
    """
    height, width = x.shape[2:]
    places = torch.stack(
        [2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1
    )
    places = places.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, places, mode="bilinear", padding_mode="reflection", align_corners=True)


def zoomed(x: Float[Tensor, "n c h w"], factor: float) -> Float[Tensor, "n c h w"]:
    """Return the middle of images, enlarged to their size.

    Whole pixels are cut out and enlarged to whole pixels, as for the published files: the factor is
    met only roughly, and the middle moves by up to a pixel.
    """
    rows, columns = (_zoomed_places(side, factor) for side in x.shape[2:])
    rows, columns = torch.broadcast_tensors(rows[None, :, None], columns[None, None, :])
    return sampled(x, rows, columns)


def _zoomed_places(side: int, factor: float) -> Float[Tensor, " side"]:
    cut = math.ceil(side / factor)
    enlarged = max(side, round(cut * factor))
    first, skipped = (side - cut) // 2, (enlarged - side) // 2
    return first + (skipped + torch.arange(side)) * ((cut - 1) / max(enlarged - 1, 1))


def _added(parts: Iterable[Tensor]) -> Tensor:
    remaining = iter(parts)  # one at a time: there may be many, each of the size of the batch
    total = next(remaining).clone()
    for part in remaining:
        total += part
    return total
