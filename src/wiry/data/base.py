"""What a data set is to the rest of the house: three splits of images in [0, 1] with labels.

Here are the container, the statistics of the training pixels and the two ways to part a validation
split, neither of which depends on the seed of a run. How files are found is `locate`, how batches
are drawn is `loader`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wiry.core.errors import closest
from wiry.core.registry import registry
from wiry.core.rng import stream

Augment = Literal["none", "crop-flip"]
Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images (float32 in [0, 1]) and labels (int64) of the three splits, whole, on the CPU.

    Attributes:
        augment: what the training loader does to a batch.
        num_extra: the last so many training images are extra ones, such as with guessed labels:
            they join the batches, but neither the statistics nor the length of an epoch.
        extra_share: share of each training batch that they make up, in (0, 1) if there are any.
    """

    name: str
    train_x: Float[Tensor, "train c h w"]
    train_y: Int[Tensor, " train"]
    validation_x: Float[Tensor, "validation c h w"]
    validation_y: Int[Tensor, " validation"]
    test_x: Float[Tensor, "test c h w"]
    test_y: Int[Tensor, " test"]
    class_names: tuple[str, ...]
    augment: Augment = "none"
    num_extra: int = 0
    extra_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            x, y = getattr(self, f"{name}_x"), getattr(self, f"{name}_y")
            if x.dtype != torch.float32 or x.dim() != 4 or y.dtype != torch.int64:
                raise ValueError(
                    f"{name}: images must be float32 (n, c, h, w) and labels int64, got {x.dtype} "
                    f"{tuple(x.shape)} and {y.dtype}"
                )
            if len(x) == 0 or y.shape != x.shape[:1] or x.shape[1:] != self.train_x.shape[1:]:
                raise ValueError(
                    f"{name}: got images {tuple(x.shape)} and labels {tuple(y.shape)}; a split has "
                    "one label an image, at least one image, and images of one size"
                )
            low, high = float(x.min()), float(x.max())
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name}: pixels must be in [0, 1], got {low:g} to {high:g}")
            if int(y.min()) < 0 or int(y.max()) >= len(self.class_names):
                raise ValueError(
                    f"{name}: labels are {int(y.min())} to {int(y.max())}, but there are "
                    f"{len(self.class_names)} class names"
                )
        check_extra(len(self.train_x), self.num_extra, self.extra_share)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def split(self, name: Split) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return the images and labels of a split.

        Raises:
            ValueError: if there is no such split.
        """
        if name == "train":
            return self.train_x, self.train_y
        if name == "validation":
            return self.validation_x, self.validation_y
        if name == "test":
            return self.test_x, self.test_y
        raise ValueError(f"no split {name!r}{closest(name, ('train', 'validation', 'test'))}")


def check_extra(num_images: int, num_extra: int, extra_share: float) -> None:
    """Check how many of the training images are extra ones, and their share of a batch.

    Raises:
        ValueError: if no other image is left, or the share does not fit the number.
    """
    if not 0 <= num_extra < num_images:
        raise ValueError(
            f"num_extra must be at least 0 and below the number of training images, {num_images}, "
            f"got {num_extra}"
        )
    if num_extra and not 0 < extra_share < 1:
        raise ValueError(f"extra_share must be in (0, 1) with extra images, got {extra_share:g}")
    if extra_share and not num_extra:
        raise ValueError(f"extra_share is {extra_share:g}, but there are no extra images")


def build_dataset(spec: Any) -> Dataset:
    """Build the data set a recipe's `data` describes.

    Raises:
        UserError: for an unknown name or field, or files that cannot be had.
    """
    return registry("dataset").build(spec)


def mean_std(dataset: Dataset) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return mean and standard deviation of each channel over the training pixels.

    Extra images do not count, so that a network means the same with and without them.
    Sums are taken in float64: a float32 mean over 10^8 pixels loses digits. The standard deviation
    is the population's; a channel without variation gets 1, so that dividing by it is harmless.
    """
    means, stds = [], []
    num_labelled = len(dataset.train_x) - dataset.num_extra
    for channel in dataset.train_x[:num_labelled].unbind(1):
        mean = channel.mean(dtype=torch.float64)
        std = (channel - mean.float()).square_().mean(dtype=torch.float64).sqrt()
        means.append(mean)
        stds.append(std if std > 0 else torch.ones_like(std))
    return torch.stack(means).float(), torch.stack(stds).float()


def first_split(num_samples: int, num_first: int) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
    """Return the indices of the first `num_first` samples and those of the rest.

    Raises:
        ValueError: if either part would be empty.
    """
    if not 0 < num_first < num_samples:
        raise ValueError(
            f"a part of {num_first} samples was asked of {num_samples}; "
            f"choose 1 to {num_samples - 1}, so that both parts hold samples"
        )
    indices = torch.arange(num_samples)
    return indices[:num_first], indices[num_first:]


def limited(indices: Int[Tensor, " n"], num_samples: int | None) -> Int[Tensor, " m"]:
    """Return the first `num_samples` indices, all of them for None.

    Raises:
        ValueError: if there are fewer.
    """
    if num_samples is not None and num_samples > len(indices):
        raise ValueError(
            f"num_train is {num_samples}, but only {len(indices)} training images remain besides "
            "the validation split; ask for fewer"
        )
    return indices[:num_samples]


def stratified_split(
    y: Int[Tensor, " n"], counts: Sequence[int], *, seed: int
) -> list[Int[Tensor, " part"]]:
    """Part samples at random so that each part has the same mix of classes.

    The k-th of a class's m shuffled samples stands at (k + 1/2) / m; sorted by that place, any
    stretch of samples has the mix of the whole, up to about one sample a class. `seed` is the
    split's own and not the run's: runs of different seeds see the same test images.

    Args:
        counts: samples of each part but the last, which takes the rest.
        seed: the split's seed.

    Returns:
        One tensor of ascending indices a part; disjoint, and together all samples.

    Raises:
        ValueError: if a part would be empty.
    """
    if min(counts) < 1 or sum(counts) >= len(y):
        raise ValueError(
            f"parts of {list(counts)} samples were asked of {len(y)}; each part needs at least 1 "
            "sample, and so does the rest"
        )
    place = torch.empty(len(y), dtype=torch.float64)
    for label in y.unique().tolist():
        members = (y == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=stream(seed, "split", label))
        place[members[order]] = (torch.arange(len(members)).double() + 0.5) / len(members)
    parts = place.argsort(stable=True).split([*counts, len(y) - sum(counts)])
    return [part.sort().values for part in parts]
