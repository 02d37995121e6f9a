"""MNIST and Fashion-MNIST: tiny files in IDX form, and the real ones where they are."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wiry.core.errors import UserError
from wiry.data import mnist
from wiry.data.base import build_dataset, mean_std

NUM_TRAIN, NUM_TEST = 7, 3


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """WIRY_DATA with an mnist/ of seven training and three test images of 28x28."""
    numbers = np.random.default_rng(0)
    contents = {
        mnist.TRAIN_X: idx(numbers.integers(0, 256, (NUM_TRAIN, 28, 28))),
        mnist.TRAIN_Y: idx(np.arange(NUM_TRAIN)),
        mnist.TEST_X: idx(np.full((NUM_TEST, 28, 28), 51)),  # 51 / 255 = 0.2
        mnist.TEST_Y: idx(np.array([9, 8, 7])),
    }
    (tmp_path / "mnist").mkdir()
    for file, content in contents.items():
        (tmp_path / "mnist" / file).write_bytes(gzip.compress(content))
    sums = {f: hashlib.md5(c, usedforsecurity=False).hexdigest() for f, c in contents.items()}
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, contents=sums))
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    return tmp_path / "mnist"


def test_the_first_training_images_are_the_validation_split(files):
    dataset = build_dataset({"name": "mnist", "num_validation": 2})
    assert dataset.validation_y.tolist() == [0, 1]
    assert dataset.train_y.tolist() == [2, 3, 4, 5, 6]
    assert dataset.test_y.tolist() == [9, 8, 7]
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.class_names == tuple("0123456789")


def test_bytes_become_shares_of_255_in_the_order_of_the_file(files):
    dataset = build_dataset({"name": "mnist", "num_validation": 2})
    torch.testing.assert_close(dataset.test_x, torch.full((3, 1, 28, 28), 0.2))
    stored = np.random.default_rng(0).integers(0, 256, (NUM_TRAIN, 28, 28))
    expected = torch.tensor(stored[2], dtype=torch.float32) / 255
    torch.testing.assert_close(dataset.train_x[0, 0], expected)


def test_num_train_takes_the_first_images_after_the_validation_split(files):
    dataset = build_dataset({"name": "mnist", "num_validation": 2, "num_train": 3})
    assert dataset.train_y.tolist() == [2, 3, 4]


@pytest.mark.parametrize("fields", [{}, {"num_validation": 2, "num_train": 6}])
def test_more_images_than_there_are_is_refused(files, fields):
    with pytest.raises(UserError, match=r"dataset 'mnist': "):
        build_dataset({"name": "mnist", **fields})


def test_a_changed_file_is_refused_by_name(files):
    path = files / mnist.TRAIN_Y
    path.write_bytes(gzip.compress(idx(np.zeros(NUM_TRAIN))))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.gz is corrupted: .* MD5"):
        build_dataset({"name": "mnist", "num_validation": 2})


@pytest.mark.parametrize("keep", [5, 40, -4])
def test_a_file_cut_short_is_refused_by_name(files, keep):
    path = files / mnist.TRAIN_X
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is corrupted: it cannot"):
        build_dataset({"name": "mnist", "num_validation": 2})


def test_a_missing_file_is_named(files):
    (files / mnist.TEST_X).unlink()
    with pytest.raises(UserError, match=r"no mnist/t10k-images-idx3-ubyte.gz"):
        build_dataset({"name": "mnist", "num_validation": 2})


@pytest.mark.parametrize(
    ("name", "mean", "std", "train", "test"),
    [
        ("mnist", 0.1307, 0.3081, [5, 0, 4, 1, 9], [7, 2, 1, 0, 4]),
        ("fashion-mnist", 0.2860, 0.3530, [9, 0, 0, 3, 0], [9, 2, 1, 1, 6]),
    ],
)
def test_the_real_files_hold_what_is_published(
    name, mean, std, train, test, real_data, monkeypatch
):
    monkeypatch.setenv("WIRY_DATA", str(real_data))
    dataset = build_dataset({"name": name, "num_validation": 10})
    assert dataset.validation_y[:5].tolist() == train
    assert dataset.test_y[:5].tolist() == test
    assert (len(dataset.train_x), len(dataset.test_x)) == (59990, 10000)
    found = mean_std(dataset)  # over all but ten of the training images
    assert found[0].item() == pytest.approx(mean, abs=1e-4)
    assert found[1].item() == pytest.approx(std, abs=1e-4)
    assert dataset.test_y.bincount().min() > 800
