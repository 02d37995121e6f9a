"""Images from an .npz: four layouts are the same images, and everything else is refused by name."""

import io
import zipfile

import numpy as np
import pytest
import torch

from wiry.core.errors import UserError
from wiry.data.arrays import load_arrays

PIXELS = np.arange(2 * 3 * 6 * 5, dtype=np.uint8).reshape(2, 3, 6, 5)  # n c h w
LABELS = np.array([1, 0])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_layouts_and_types_give_the_same_images(channels_last, kind, tmp_path):
    x = PIXELS.transpose(0, 2, 3, 1) if channels_last else PIXELS
    x = x if kind == "uint8" else (x / 255).astype(kind)
    np.savez(tmp_path / "a.npz", x=x, y=LABELS)
    images, labels = load_arrays(tmp_path / "a.npz")
    assert images.dtype == torch.float32 and images.shape == (2, 3, 6, 5)
    torch.testing.assert_close(images, torch.from_numpy(PIXELS / 255).float())
    assert labels.dtype == torch.int64 and labels.tolist() == [1, 0]


def test_one_channel_may_be_left_out_and_labels_may_be_a_column(tmp_path):
    np.savez(tmp_path / "a.npz", x=PIXELS[:, 0], y=LABELS[:, None].astype(np.uint8))
    images, labels = load_arrays(tmp_path / "a.npz")
    assert images.shape == (2, 1, 6, 5) and labels.tolist() == [1, 0]


FLOATS = (PIXELS / 255).astype(np.float32)
WRONG = {
    "no array 'y'": {"x": PIXELS},
    "no array 'x'": {"images": PIXELS, "y": LABELS},
    "--mean": {"x": FLOATS * 2 - 1, "y": LABELS},
    "must be in [0, 1]": {"x": np.full_like(FLOATS, np.nan), "y": LABELS},
    "type int64": {"x": PIXELS.astype(np.int64), "y": LABELS},
    "no batch of images": {"x": PIXELS.reshape(2, -1), "y": LABELS},
    "no batch of": {"x": PIXELS[:, :0], "y": LABELS},
    "2 images and 3 labels": {"x": PIXELS, "y": np.zeros(3, int)},
    "0 images": {"x": PIXELS[:0], "y": LABELS[:0]},
    "one class number": {"x": PIXELS, "y": np.eye(2, dtype=int)},
    "type float64": {"x": PIXELS, "y": LABELS.astype(float)},
    "label -1": {"x": PIXELS, "y": LABELS - 1},
    "plain arrays": {"x": PIXELS, "y": np.array([{}, {}], dtype=object)},
}


@pytest.mark.parametrize("expected", WRONG)
def test_what_is_no_batch_of_images_is_refused_by_name(expected, tmp_path):
    np.savez(tmp_path / "a.npz", **WRONG[expected])
    with pytest.raises(UserError, match=r"a\.npz") as caught:
        load_arrays(tmp_path / "a.npz")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_and_other_files_are_refused(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, x=PIXELS, y=LABELS)
    one = io.BytesIO()
    np.save(one, PIXELS)
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("x.npy", b"nothing")
    for content in (whole.getvalue()[:200], b"", b"text", one.getvalue(), foreign.getvalue()):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.npz"):
            load_arrays(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"b\.npz"):
        load_arrays(tmp_path / "b.npz")
