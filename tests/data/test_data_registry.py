"""What holds for every data set there is, present and to come.

CIFAR-10 is left to its own test, which takes minutes; sets whose files are not here are skipped.
Sets that cannot be built from their name alone, as they stand upon another, have their own tests.
"""

import hashlib
import itertools
import os

import pytest
import torch

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.data.base import build_dataset

SPLITS = ("train", "validation", "test")
NAMES = [
    name
    for name in registry("dataset").names()
    if name != "cifar10"
    and all(p.default is not p.empty for p in registry("dataset").signature(name).values())
]
MOST_SHARED = 0.01  # published sets have a few true duplicates; a leaking split has far more


def built(name):
    try:
        return build_dataset(name)
    except UserError as error:
        if "has no" not in str(error):  # files that are there and wrong are no reason
            raise
        pytest.skip(f"{name}: its files are not here ({error})")


@pytest.fixture(scope="module", params=NAMES)
def dataset(request, tmp_path_factory):
    """A data set from the folder that `real_data` names, or made; nothing is downloaded."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("no-data")
    if not os.environ.get("WIRY_DATA"):
        try:
            folder = request.getfixturevalue("real_data")
        except pytest.skip.Exception:
            pass  # sets that are made need no folder; the others are skipped by `built`
        patch.setenv("WIRY_DATA", str(folder))
    yield built(request.param)
    patch.undo()


def digests(x):
    """Return a set with a digest of each image."""
    return {hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in x.numpy()}


def test_images_are_float32_in_0_to_1_and_labels_int64_of_the_classes(dataset):
    assert dataset.num_classes >= 2 and len(set(dataset.class_names)) == dataset.num_classes
    for split in SPLITS:
        x, y = dataset.split(split)
        assert len(x) == len(y) > 0, split
        assert x.shape[1:] == dataset.input_shape and y.shape == (len(x),)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert 0 <= x.min() and x.max() <= 1, split  # false for NaN too
        assert x.max() > 1 / 8, "pixels were divided twice"
        assert 0 <= y.min() and y.max() < dataset.num_classes


def test_every_class_is_in_the_training_split(dataset):
    assert (dataset.train_y.bincount(minlength=dataset.num_classes) > 0).all()


def test_no_two_splits_share_images(dataset):
    images = {split: digests(dataset.split(split)[0]) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        shared = len(images[one] & images[other])
        smaller = min(len(images[one]), len(images[other]))
        assert shared < MOST_SHARED * smaller, f"{shared} images of {other} are in {one}"


def test_two_builds_are_equal_and_leave_the_global_generator_alone(dataset):
    state = torch.get_rng_state()
    again = build_dataset(dataset.name)
    assert torch.equal(state, torch.get_rng_state())
    assert again.class_names == dataset.class_names and again.augment == dataset.augment
    for split in SPLITS:
        for one, other in zip(dataset.split(split), again.split(split), strict=True):
            assert torch.equal(one, other), split
