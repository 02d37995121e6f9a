"""Pseudo-labelled images: the file formats, what does not fit, and making labels."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.data.base import build_dataset, mean_std
from wiry.data.pseudo_labelled import pseudo_label, read_images, save_pseudo_labelled

IMAGES = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8, 1)  # (n, h, w, c), as published
LABELS = np.array([3, 1, 4, 1, 5, 9])
EXPECTED = torch.tensor(IMAGES.transpose(0, 3, 1, 2)).float().div(255)


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def spec(file, **fields):
    labelled = {"name": "digits", "num_train": 20}
    return {"name": "pseudo-labelled", "labelled": labelled, "file": str(file), **fields}


def published(path, protocol=4):
    return written(
        path, {"data": IMAGES, "extrapolated_targets": LABELS, "epoch": 200}, protocol=protocol
    )


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_published_format_is_read_in_every_protocol(tmp_path, protocol):
    dataset = build_dataset(spec(published(tmp_path / "ti.pickle", protocol)))
    assert dataset.num_extra == 6 and dataset.extra_share == 0.5
    torch.testing.assert_close(dataset.train_x[20:], EXPECTED, rtol=0, atol=0)
    assert dataset.train_y[20:].tolist() == LABELS.tolist()


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_the_other_formats_give_the_same_data_set(tmp_path, ending, kind):
    path = tmp_path / f"x.{ending}"
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2)) if kind == "bytes" else EXPECTED
    if ending == "npz":
        np.savez(path, x=images.numpy(), y=LABELS)
    else:
        save_pseudo_labelled(path, images, torch.tensor(LABELS))
    dataset = build_dataset(spec(path, share=0.25))
    assert torch.equal(dataset.train_x[20:], EXPECTED) and dataset.extra_share == 0.25
    assert dataset.train_y[20:].tolist() == LABELS.tolist()
    assert torch.equal(read_images(path, (1, 8, 8)), images)


def test_everything_but_the_training_split_is_that_of_the_labelled_set(tmp_path):
    path = published(tmp_path / "x.pickle")
    plain, dataset = build_dataset(spec(path)["labelled"]), build_dataset(spec(path))
    for split in ("validation", "test"):
        assert all(map(torch.equal, plain.split(split), dataset.split(split)))
    assert torch.equal(dataset.train_x[:20], plain.train_x)
    assert torch.equal(dataset.train_y[:20], plain.train_y)
    assert all(map(torch.equal, mean_std(plain), mean_std(dataset)))
    assert (dataset.name, dataset.class_names) == (plain.name, plain.class_names)


def test_a_name_is_looked_for_in_the_data_folder_and_the_first_images_can_be_chosen(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    (tmp_path / "pseudo-labelled").mkdir()
    published(tmp_path / "pseudo-labelled" / "ti.pickle")
    dataset = build_dataset(spec("ti.pickle", num_pseudo=2))
    assert dataset.num_extra == 2 and dataset.train_y[20:].tolist() == [3, 1]


def test_the_checksum_is_checked_if_there_is_one(tmp_path):
    path = published(tmp_path / "x.pickle")
    with pytest.raises(UserError, match=r"has the SHA-256 [0-9a-f]{64}, but the recipe wants 00"):
        build_dataset(spec(path, sha256="00"))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": IMAGES}, "has no labels"),
        ({"y": LABELS}, "has no 'x'; found: y"),
        ({"x": IMAGES[:, :4], "y": LABELS}, r"shape \(4, 8, 1\) do not fit .* \(1, 8, 8\)"),
        ({"x": IMAGES, "y": LABELS[:5]}, "6 images and 5 labels"),
        ({"x": IMAGES, "y": LABELS + 1}, "labels are 2 to 10, but there are 10 classes"),
        ({"x": IMAGES, "y": LABELS / 2}, "labels must be integers"),
        ({"x": IMAGES.astype(np.int64), "y": LABELS}, "must be uint8 or float32"),
        ({"x": IMAGES.astype(np.float32), "y": LABELS}, r"pixels must be in \[0, 1\]"),
        ({"x": np.array(["a"] * 6), "y": LABELS}, "holds numbers of type"),
        ({"x": np.array([None] * 6), "y": LABELS}, "not a readable .npz file of plain numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, text):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=text):
        build_dataset(spec(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("file", "fields", "text"),
    [
        ("none.pickle", {}, "neither a file nor a name in the folder 'pseudo-labelled'"),
        ("x.txt", {}, "the ending '.txt' is unknown; known: .pickle, .npz, .safetensors"),
        ("x.npz", {}, "not a readable .npz file"),
        ("x.safetensors", {}, "not a readable safetensors file"),
        ("ok.pickle", {"num_pseudo": 7}, "num_pseudo is 7, but .* has 6 images"),
        ("ok.pickle", {"share": 1.0}, "share: Input should be less than 1"),
        ("ok.pickle", {"share": 0}, "share: Input should be greater than 0"),
    ],
)
def test_a_file_or_field_that_makes_no_sense_is_refused(tmp_path, file, fields, text):
    published(tmp_path / "ok.pickle")
    for ending in ("txt", "npz", "safetensors"):
        (tmp_path / f"x.{ending}").write_bytes(b"no archive")
    with pytest.raises(UserError, match=text):
        build_dataset(spec(tmp_path / file, **fields))


def test_pseudo_labelled_images_do_not_stand_upon_pseudo_labelled_ones(tmp_path):
    inner = spec(published(tmp_path / "x.pickle"))
    with pytest.raises(UserError, match="without pseudo-labelled images of its own"):
        build_dataset(spec(tmp_path / "x.pickle", labelled=inner))


def test_a_recipe_names_both_sets_without_reading_them():
    checked = registry("dataset").normalize(spec("somewhere.pickle", share=0.5))
    assert checked == {
        "name": "pseudo-labelled",
        "labelled": {"name": "digits", "num_train": 20},
        "file": "somewhere.pickle",
    }


class Brightest(nn.Module):
    """Says which of an image's three pixels is the brightest."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        assert x.is_floating_point() and x.max() <= 1
        return self.drop(x.flatten(1) * self.scale)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_pseudo_labels_are_the_predictions_in_eval_mode(kind):
    labels = torch.tensor([0, 2, 1, 1, 0])
    images = torch.zeros(5, 1, 1, 3, dtype=torch.uint8)
    images[torch.arange(5), 0, 0, labels] = 200
    model = Brightest().train()
    given = images if kind == "bytes" else images.float() / 255
    before = given.clone()
    assert pseudo_label(model, given, batch_size=2).tolist() == labels.tolist()
    assert torch.equal(given, before)
    assert model.training and model.drop.training


def test_labels_that_were_written_are_trained_on(tmp_path):
    """From guessing to the data set, whole."""
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    labels = pseudo_label(model, images)
    save_pseudo_labelled(tmp_path / "x.safetensors", images, labels)
    dataset = build_dataset(spec(tmp_path / "x.safetensors"))
    assert torch.equal(dataset.train_y[20:], labels)
    assert torch.equal(dataset.train_x[20:], images.float() / 255)
