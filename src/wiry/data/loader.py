"""Batches of a data set that lies whole on the device: a shuffle is an index, not a copy.

Order and augmentation are pure functions of (seed, stage, epoch, step), so a run resumed in the
middle of an epoch sees what an uninterrupted one sees and no generator has to be saved. There are
no worker processes; what does not fit into the device's memory is not for this loader.

Extra images (pseudo-labelled ones) come in a fixed share of every batch. An epoch is one pass over
the others; the extra ones have an order of their own that runs on from epoch to epoch, so that each
is drawn equally often.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from wiry.core.batch import Batch
from wiry.core.rng import stream
from wiry.data.base import Augment, check_extra

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
        num_extra: the last so many images are extra ones.
        extra_share: share of each batch that is drawn from them, rounded to whole images.

    Raises:
        ValueError: if there are no images, labels do not fit, `batch_size` is below 1, or it cannot
            be parted in the share that was asked.
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
        num_extra: int = 0,
        extra_share: float = 0.0,
    ) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise ValueError(f"a loader needs images with labels, got {len(x)} and {len(y)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if augment not in ("none", "crop-flip"):
            raise ValueError(f"augment must be 'none' or 'crop-flip', got {augment!r}")
        check_extra(len(x), num_extra, extra_share)
        self.x, self.y = x.to(device), y.to(device)
        self.batch_size, self.seed, self.stage, self.augment = batch_size, seed, stage, augment
        self.num_extra, self.num_labelled = num_extra, len(x) - num_extra
        self._extra_per_batch = round(extra_share * batch_size)
        self._labelled_per_batch = batch_size - self._extra_per_batch
        if num_extra and not 0 < self._extra_per_batch < batch_size:
            raise ValueError(
                f"a batch of {batch_size} cannot hold a share of {extra_share:g} extra images and "
                "at least one of each sort; choose another batch_size or share"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, a smaller last one included."""
        return -(-self.num_labelled // self._labelled_per_batch)

    @property
    def last_batch_size(self) -> int:
        """Number of images in the last batch of an epoch, extra ones included."""
        rest = self.num_labelled - (self.steps_per_epoch - 1) * self._labelled_per_batch
        return rest + self._num_extra_beside(rest)

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on, the same ones at every call."""
        batches = self._batches(epoch)
        for step, index in enumerate(batches[first_step:], start=first_step):
            x = self.x[index]
            if self.augment == "crop-flip":
                x = crop_flip(x, stream(self.seed, self.stage, "augment", epoch, step))
            yield Batch(x, self.y[index], index)

    def _batches(self, epoch: int) -> Sequence[Int[Tensor, " n"]]:
        """Return the indices of each batch of an epoch."""
        order = torch.randperm(
            self.num_labelled, generator=stream(self.seed, self.stage, "order", epoch)
        )
        batches = order.to(self.x.device).split(self._labelled_per_batch)
        if not self.num_extra:
            return batches
        counts = [self._num_extra_beside(len(batch)) for batch in batches]
        extra = self._extra_order(epoch, sum(counts)).to(self.x.device).split(counts)
        return [
            self._mixed(torch.cat([batch, more]), epoch, step)
            for step, (batch, more) in enumerate(zip(batches, extra, strict=True))
        ]

    def _num_extra_beside(self, num_labelled: int) -> int:
        """Return how many extra images join so many others: the same share in a smaller batch."""
        return round(num_labelled * self._extra_per_batch / self._labelled_per_batch)

    def _extra_order(self, epoch: int, num: int) -> Int[Tensor, " n"]:
        """Return the indices of an epoch's extra images: a stretch of endless shuffled passes."""
        first, last = epoch * num, (epoch + 1) * num
        passes = range(first // self.num_extra, -(-last // self.num_extra))
        drawn = [
            torch.randperm(
                self.num_extra, generator=stream(self.seed, self.stage, "extra order", number)
            )
            for number in passes
        ]
        begin = first - passes.start * self.num_extra
        return torch.cat(drawn)[begin : begin + num] + self.num_labelled

    def _mixed(self, index: Int[Tensor, " n"], epoch: int, step: int) -> Int[Tensor, " n"]:
        """Shuffle a batch: ranks and half batches take parts of it by place."""
        generator = stream(self.seed, self.stage, "mix", epoch, step)
        return index[torch.randperm(len(index), generator=generator).to(index.device)]


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
