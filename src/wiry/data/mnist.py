"""MNIST and Fashion-MNIST from the four gzip files in IDX form that both are published as.

Files come from `locate`; the checksum is taken of the uncompressed content, so a file that was
compressed anew is as good as the original.
"""

import dataclasses
import gzip
import hashlib
import zlib
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from wiry.core.registry import registry
from wiry.data.base import Dataset, first_split, limited
from wiry.data.locate import corrupted, locate

Count = Annotated[int, Field(ge=1)]

TRAIN_X, TRAIN_Y = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_X, TEST_Y = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the files of a set are and what they must hold.

    Attributes:
        folder: the set's folder below the data folder.
        url: address that file names are appended to.
        downloads: MD5 of each published gzip file.
        contents: MD5 of each file's uncompressed content.
    """

    folder: str
    url: str
    downloads: dict[str, str]
    contents: dict[str, str]


MNIST = Source(
    folder="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    downloads={
        TRAIN_X: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        TRAIN_Y: "d53e105ee54ea40749a09fcbcd1e9432",
        TEST_X: "9fb629c4189551a2d022fa330f9573f3",
        TEST_Y: "ec29112dd5afa0611ce80d1b7f02629c",
    },
    contents={
        TRAIN_X: "6bbc9ace898e44ae57da46a324031adb",
        TRAIN_Y: "a25bea736e30d166cdddb491f175f624",
        TEST_X: "2646ac647ad5339dbf082846283269ea",
        TEST_Y: "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = Source(
    folder="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    downloads={
        TRAIN_X: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        TRAIN_Y: "25c81989df183df01b3e8a0aad5dffbe",
        TEST_X: "bef4ecab320f06d8554ea6380940ec79",
        TEST_Y: "bb300cfdad3c16e7a12a480ee83cd310",
    },
    contents={
        TRAIN_X: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        TRAIN_Y: "9018921c3c673c538a1fc5bad174d6f9",
        TEST_X: "8181f5470baa50b63fa0f6fddb340f0a",
        TEST_Y: "15d484375f8d13e6eb1aabb0c3f46965",
    },
)

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker")
CLOTHES += ("Bag", "Ankle boot")


@registry("dataset").register("mnist")
def mnist(*, num_validation: Count = 10000, num_train: Count | None = None) -> Dataset:
    """28x28 grey handwritten digits: 60,000 training and 10,000 test images (LeCun et al. 1998).

    The first `num_validation` training images are the validation split, as in the code of Cosentino
    et al. 2019 (robust lottery tickets).

    Args:
        num_validation: validation images.
        num_train: use only the first of the remaining training images; all if left out.

    Raises:
        ValueError: if there are not enough images, or a file is missing or corrupted.
    """
    digits = tuple(str(digit) for digit in range(10))
    return _load("mnist", MNIST, digits, num_validation, num_train)


@registry("dataset").register("fashion-mnist")
def fashion_mnist(*, num_validation: Count = 10000, num_train: Count | None = None) -> Dataset:
    """28x28 grey pieces of clothing: 60,000 training and 10,000 test images (Xiao et al. 2017).

    The first `num_validation` training images are the validation split, as in the code of Cosentino
    et al. 2019 (robust lottery tickets).

    Args:
        num_validation: validation images.
        num_train: use only the first of the remaining training images; all if left out.

    Raises:
        ValueError: if there are not enough images, or a file is missing or corrupted.
    """
    return _load("fashion-mnist", FASHION_MNIST, CLOTHES, num_validation, num_train)


def _load(
    name: str,
    source: Source,
    class_names: tuple[str, ...],
    num_validation: int,
    num_train: int | None,
) -> Dataset:
    x, y = _images(source, TRAIN_X), _labels(source, TRAIN_Y)
    validation, train = first_split(len(x), num_validation)
    train = limited(train, num_train)
    return Dataset(
        name=name,
        train_x=x[train],
        train_y=y[train],
        validation_x=x[validation],
        validation_y=y[validation],
        test_x=_images(source, TEST_X),
        test_y=_labels(source, TEST_Y),
        class_names=class_names,
    )


def _images(source: Source, file: str) -> Tensor:
    pixels = torch.from_numpy(_read(source, file).astype(np.float32))
    return pixels.div_(255).unsqueeze_(1)


def _labels(source: Source, file: str) -> Tensor:
    return torch.from_numpy(_read(source, file).astype(np.int64))


def _read(source: Source, file: str) -> np.ndarray:
    """Read an IDX file of bytes: two zeros, type 8, number of dimensions, sizes, values."""
    path = locate(source.folder, file, url=source.url + file, md5=source.downloads[file])
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise corrupted(path, f"it cannot be decompressed ({error})") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != source.contents[file]:
        raise corrupted(
            path, f"its content has MD5 {found} and should have {source.contents[file]}"
        )
    num_dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)
