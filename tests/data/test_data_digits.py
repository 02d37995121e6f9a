"""The built-in data set."""

import hashlib

import pytest
import torch

from wiry.core.errors import UserError
from wiry.data.base import build_dataset, mean_std


def test_digits_have_the_shape_range_and_types_that_models_expect():
    dataset = build_dataset("digits")
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.class_names == tuple("0123456789")
    for split, num in (("train", 896), ("validation", 450), ("test", 451)):
        x, y = dataset.split(split)
        assert x.shape == (num, 1, 8, 8)
        assert y.shape == (num,)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert (x.min().item(), x.max().item()) == (0.0, 1.0)


def test_every_image_is_in_exactly_one_split():
    dataset = build_dataset("digits")
    images = torch.cat([dataset.split(name)[0] for name in ("train", "validation", "test")])
    assert len(images.flatten(1).unique(dim=0)) == 1797  # no two of the images are equal


def test_every_split_has_about_the_mix_of_classes_of_the_whole():
    dataset = build_dataset("digits")
    labels = [dataset.split(name)[1] for name in ("train", "validation", "test")]
    shares = torch.cat(labels).bincount() / 1797
    for y in labels:
        assert ((y.bincount() - shares * len(y)).abs() <= 1.5).all()


def test_the_split_is_the_pinned_one():
    dataset = build_dataset("digits")
    content = b"".join(dataset.split(name)[0].numpy().tobytes() for name in ("train", "test"))
    assert hashlib.sha256(content).hexdigest()[:16] == "15a35c3d413142b2"
    assert dataset.train_y[:10].tolist() == [0, 1, 4, 5, 7, 0, 5, 6, 7, 9]


def test_another_split_seed_gives_another_split():
    one, other = build_dataset("digits"), build_dataset({"name": "digits", "split_seed": 1})
    assert not torch.equal(one.test_x, other.test_x)


def test_num_train_leaves_the_other_splits_alone():
    whole = build_dataset("digits")
    few = build_dataset({"name": "digits", "num_train": 64})
    assert torch.equal(few.train_x, whole.train_x[:64])
    assert torch.equal(few.test_x, whole.test_x)
    assert torch.equal(few.validation_y, whole.validation_y)


@pytest.mark.parametrize("fields", [{"num_test": 1400}, {"num_train": 897}])
def test_more_images_than_there_are_is_refused(fields):
    with pytest.raises(UserError, match=r"dataset 'digits': "):
        build_dataset({"name": "digits", **fields})


def test_changing_one_data_set_does_not_change_the_next():
    build_dataset("digits").train_x.fill_(7)
    assert mean_std(build_dataset("digits"))[0].item() < 1
