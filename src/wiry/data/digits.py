"""Handwritten digits of 8x8 pixels that come with scikit-learn: the data set that needs no file.

1,797 images from the "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak 1998);
training on it takes seconds, so examples and tests run anywhere. Nothing is downloaded.
"""

import functools
from typing import Annotated

import torch
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor

from wiry.core.registry import registry
from wiry.data.base import Dataset, limited, stratified_split

Count = Annotated[int, Field(ge=1)]


@registry("dataset").register("digits")
def digits(
    *,
    num_validation: Count = 450,
    num_test: Count = 451,
    num_train: Count | None = None,
    split_seed: int = 0,
) -> Dataset:
    """8x8 grey handwritten digits, 1,797 images in 10 classes; built in, no download.

    The split is stratified and depends on `split_seed` only, not on the seed of the run. By default
    896 images are for training: whole batches of 64 and 128, as batch normalisation suffers from a
    last batch of two.

    Args:
        num_validation: validation images.
        num_test: test images.
        num_train: use only the first of the remaining images; all if left out.
        split_seed: seed of the split.

    Raises:
        ValueError: if there are not enough images.
    """
    x, y = _images()
    test, validation, train = stratified_split(y, (num_test, num_validation), seed=split_seed)
    train = limited(train, num_train)
    return Dataset(
        name="digits",
        train_x=x[train],
        train_y=y[train],
        validation_x=x[validation],
        validation_y=y[validation],
        test_x=x[test],
        test_y=y[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )


@functools.cache
def _images() -> tuple[Tensor, Tensor]:
    values, labels = load_digits(return_X_y=True)
    x = torch.tensor(values, dtype=torch.float32).div(16).view(-1, 1, 8, 8)  # grey values are 0-16
    return x, torch.tensor(labels, dtype=torch.int64)
