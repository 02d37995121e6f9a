"""Reading published corruptions: planted small folders, whole and broken."""

import numpy as np
import pytest
import torch

from wiry.core.errors import UserError
from wiry.data.corruptions.official import official_files

LABELS = [2, 0, 1]


def plant(folder, *, name="fog", labels=LABELS * 5, images=None):
    """Three images at five severities; each is filled with 10 * severity + its number."""
    if images is None:
        values = [10 * severity + i for severity in range(1, 6) for i in range(3)]
        images = np.ones((15, 4, 4, 3), np.uint8) * np.array(values, np.uint8)[:, None, None, None]
        images[..., 2] = 255
    np.save(folder / "labels.npy", np.array(labels))
    np.save(folder / f"{name}.npy", images)
    return folder


def test_images_come_by_severity_in_unit_range_with_channels_first(tmp_path):
    files = official_files(plant(tmp_path))
    assert files.labels.tolist() == LABELS
    x = files.images("fog", 4, 1, 3)
    assert x.shape == (2, 3, 4, 4)
    assert x[:, 0, 0, 0].mul(255).tolist() == [41, 42]
    assert torch.equal(x[:, 2], torch.ones(2, 4, 4))
    files.check(["fog"], (3, 4, 4))


def test_missing_files_are_all_named(tmp_path):
    files = official_files(plant(tmp_path))
    with pytest.raises(UserError, match=r"has no snow.npy, frost.npy"):
        files.check(["snow", "fog", "frost"], (3, 4, 4))


def test_images_of_another_size_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"images of 3 x 4 x 4, and .* are 3 x 32 x 32"):
        official_files(plant(tmp_path)).check(["fog"], (3, 32, 32))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((14, 4, 4, 3), np.uint8),
        np.zeros((15, 4, 4), np.uint8),
        np.zeros((15, 4, 4, 3), np.float32),
    ],
)
def test_arrays_of_another_shape_or_kind_are_refused(tmp_path, images):
    files = official_files(plant(tmp_path, images=images))
    with pytest.raises(UserError, match=r"should be uint8 \(15, height, width, channels\)"):
        files.images("fog", 1, 0, 3)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = plant(tmp_path) / "fog.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        official_files(tmp_path).images("fog", 1, 0, 1)


def test_nothing_is_unpickled(tmp_path):
    plant(tmp_path)
    np.save(tmp_path / "fog.npy", np.array([{"a": 1}] * 15, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        official_files(tmp_path).images("fog", 1, 0, 1)


def test_a_folder_without_labels_is_no_folder_of_corruptions(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        official_files(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"has no labels.npy"):
        official_files(tmp_path)


@pytest.mark.parametrize("labels", [LABELS * 4, [*LABELS * 4, 0, 1, 2], [0.5] * 15, []])
def test_labels_that_do_not_repeat_are_refused(tmp_path, labels):
    with pytest.raises(UserError, match=r"labels.npy should"):
        official_files(plant(tmp_path, labels=labels))
