"""Many random points around each image, in pieces of bounded size.

Every point has a random stream of its own, so what is drawn depends neither on how many images nor
on how many points are taken at once. What is done with the points is for their callers.
"""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws


def groups(num: int, num_points: int, batch_size: int) -> Iterator[tuple[slice, int]]:
    """Yield which images to take at once, and how many points of each.

    A piece has at most `batch_size` points: few images with all theirs where that fits, else one
    image with a part of them.

    Args:
        num: images.
        num_points: around each image.
        batch_size: points that fit into a forward and backward pass.
    """
    points = max(1, min(num_points, batch_size))
    images = max(1, batch_size // points)
    for start in range(0, num, images):
        yield slice(start, min(start + images, num)), points


def pieces(num_points: int, size: int) -> Iterator[int]:
    """Yield sizes of at most `size` that add up to `num_points`."""
    for start in range(0, num_points, size):
        yield min(size, num_points - start)


def repeated(
    x: Float[Tensor, "n c h w"], draws: Draws, count: int
) -> tuple[Float[Tensor, "m c h w"], Draws]:
    """Return each image `count` times, one after the other, and a stream for each copy.

    The streams of the images move on by `count`.
    """
    return x.repeat_interleave(count, dim=0), Draws(draws.integers(count).flatten())
