"""CIFAR-10 from its binary version: six files of 10,000 records, plain, as xz, or in the archive.

Files come from `locate`. Unpacking takes seconds, so unpacked files are kept in the user's cache.
"""

import hashlib
import lzma
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from wiry.core.files import write_atomic
from wiry.core.registry import registry
from wiry.data.base import Augment, Dataset, first_split, limited
from wiry.data.locate import cache_dir, corrupted, find, locate

Count = Annotated[int, Field(ge=1)]

FOLDER, BATCHES = "cifar10", "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
NUM_RECORDS, RECORD = 10_000, 1 + 3 * 32 * 32  # a label, then red, green and blue, row by row
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@registry("dataset").register("cifar10")
def cifar10(
    *,
    num_validation: Count = 5000,
    num_train: Count | None = None,
    augment: Augment = "crop-flip",
) -> Dataset:
    """32x32 colour photographs in 10 classes: 50,000 training and 10,000 test images.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". The last
    `num_validation` training images are the validation split.

    Args:
        num_validation: validation images.
        num_train: use only the first of the remaining training images; all if left out.
        augment: what is done to a training batch, see `Loader`.

    Raises:
        ValueError: if there are not enough images, or a file is missing or corrupted.
    """
    x, y = _load(TRAIN_FILES)
    train, validation = first_split(len(x), len(x) - num_validation)
    train = limited(train, num_train)
    test_x, test_y = _load(TEST_FILES)
    return Dataset(
        name="cifar10",
        train_x=x[train],
        train_y=y[train],
        validation_x=x[validation],
        validation_y=y[validation],
        test_x=test_x,
        test_y=test_y,
        class_names=CLASSES,
        augment=augment,
    )


def _load(files: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    records = np.concatenate([_records(file) for file in files])
    x = torch.from_numpy(records[:, 1:].astype(np.float32)).div_(255).view(-1, 3, 32, 32)
    return x, torch.from_numpy(records[:, 0].astype(np.int64))


def _records(file: str) -> np.ndarray:
    """Return the records of one batch file as bytes, (10,000, 3,073)."""
    plain = find(FOLDER, f"{BATCHES}/{file}")
    if plain is not None:
        return _parsed(plain.read_bytes(), plain)
    packed = find(FOLDER, f"{BATCHES}/{file}.xz") or locate(
        FOLDER, ARCHIVE, url=URL, md5=ARCHIVE_MD5, instead=f"{BATCHES}/{file} or {file}.xz"
    )
    unpacked = _unpacked_path(packed, file)
    if unpacked.is_file():
        return _parsed(unpacked.read_bytes(), unpacked)
    content = _unpack(packed, file)
    records = _parsed(content, packed)
    try:
        write_atomic(unpacked, content)
    except OSError as error:
        warnings.warn(
            f"{unpacked} cannot be written ({error}); {packed} is unpacked at every run",
            stacklevel=2,
        )
    return records


def _unpacked_path(packed: Path, file: str) -> Path:
    """Return where the unpacked file is kept: another name for every state of the packed one."""
    status = packed.stat()
    state = f"{packed.resolve()}/{status.st_size}/{status.st_mtime_ns}"
    key = hashlib.sha256(state.encode()).hexdigest()[:16]
    return cache_dir() / FOLDER / "unpacked" / f"{key}-{file}"


def _unpack(packed: Path, file: str) -> bytes:
    try:
        if packed.suffix == ".xz":
            return lzma.decompress(packed.read_bytes())
        if _md5(packed) != ARCHIVE_MD5:
            raise corrupted(packed, f"its MD5 is {_md5(packed)} and should be {ARCHIVE_MD5}")
        with tarfile.open(packed) as archive:
            member = archive.extractfile(f"{BATCHES}/{file}")
            assert member is not None  # a KeyError if there is none; None only for folders
            return member.read()
    except (OSError, EOFError, KeyError, lzma.LZMAError, tarfile.TarError, zlib.error) as error:
        raise corrupted(packed, f"{file} cannot be unpacked ({error})") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _parsed(content: bytes, path: Path) -> np.ndarray:
    if len(content) != NUM_RECORDS * RECORD:
        expected = NUM_RECORDS * RECORD
        raise corrupted(path, f"it holds {len(content):,} bytes and should hold {expected:,}")
    records = np.frombuffer(content, np.uint8).reshape(NUM_RECORDS, RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise corrupted(path, f"it has the label {records[:, 0].max()}; labels are 0 to 9")
    return records
