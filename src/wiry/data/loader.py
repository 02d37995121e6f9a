"""Batches of a data set that lies whole on the device: a shuffle is an index, not a copy.

Order and augmentation are pure functions of (seed, stage, epoch, step), so a run resumed in the
middle of an epoch sees what an uninterrupted one sees and no generator has to be saved. There are
no worker processes; what does not fit into the device's memory is not for this loader.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from wiry.core.batch import Batch
from wiry.core.rng import stream
from wiry.data.base import Augment

PADDING = 4  # pixels a side; He et al. 2016 (residual networks), section 4.2


class Loader:
    """Draw batches in an order that depends on (seed, stage, epoch) only.

    Args:
        x: images in [0, 1].
        y: labels.
        batch_size: images a batch; the last batch of an epoch may be smaller.
        seed: seed of the run.
        stage: name of the stage, so that stages see different orders.
        augment: "none", or "crop-flip" (zero padding of 4, random crop, random horizontal flip).
        device: where the images are kept.

    Raises:
        ValueError: if there are no images, labels do not fit, or `batch_size` is below 1.
    """

    def __init__(
        self,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        *,
        batch_size: int,
        seed: int,
        stage: str,
        augment: Augment = "none",
        device: torch.device | str = "cpu",
    ) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise ValueError(f"a loader needs images with labels, got {len(x)} and {len(y)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if augment not in ("none", "crop-flip"):
            raise ValueError(f"augment must be 'none' or 'crop-flip', got {augment!r}")
        self.x, self.y = x.to(device), y.to(device)
        self.batch_size, self.seed, self.stage, self.augment = batch_size, seed, stage, augment

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, a smaller last one included."""
        return -(-len(self.x) // self.batch_size)

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on, the same ones at every call."""
        order = torch.randperm(len(self.x), generator=stream(self.seed, self.stage, "order", epoch))
        batches = order.to(self.x.device).split(self.batch_size)
        for step, index in enumerate(batches[first_step:], start=first_step):
            x = self.x[index]
            if self.augment == "crop-flip":
                x = crop_flip(x, stream(self.seed, self.stage, "augment", epoch, step))
            yield Batch(x, self.y[index], index)


def crop_flip(
    x: Float[Tensor, "n c h w"], generator: torch.Generator, *, padding: int = PADDING
) -> Float[Tensor, "n c h w"]:
    """Pad with zeros, crop each image at a random place, and mirror half of them left to right.

    Source: He et al. 2016, "Deep residual learning", section 4.2.

    Args:
        padding: pixels added at each side before cropping.
    """
    num, _, height, width = x.shape
    where = {"generator": generator, "device": generator.device}
    top, left = torch.randint(0, 2 * padding + 1, (2, num), **where).to(x.device)
    flip = torch.randint(0, 2, (num, 1, 1, 1), **where).to(x.device).bool()
    windows = functional.pad(x, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(num, device=x.device), :, top, left]
    return torch.where(flip, cropped.flip(3), cropped)
