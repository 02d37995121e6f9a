"""Named tensors and masks on disk: bit-equal round trips, damage refused by name."""

import pickle

import pytest
import torch

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.tensors import load_mask, load_tensors, save_mask, save_tensors

WEIGHT = torch.arange(6.0).view(2, 3)


def test_tensors_come_back_bit_equal(tmp_path):
    written = {
        "transposed": WEIGHT.t(),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "half": WEIGHT.bfloat16(),
    }
    save_tensors(tmp_path / "w.safetensors", written)
    found = load_tensors(tmp_path / "w.safetensors")
    assert found.keys() == written.keys()
    for name, tensor in written.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        before, after = (t.contiguous().flatten() for t in (tensor, found[name]))
        assert torch.equal(before.view(torch.uint8), after.view(torch.uint8))


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    save_tensors(tmp_path / "w.safetensors", {"a": WEIGHT, "b": WEIGHT, "row": WEIGHT[1]})
    assert torch.equal(load_tensors(tmp_path / "w.safetensors")["b"], WEIGHT)


def test_equal_tensors_and_metadata_give_equal_bytes(tmp_path):
    metadata = {f"key-{i}": "value" for i in range(20)}
    paths = [tmp_path / "1", tmp_path / "2"]
    save_tensors(paths[0], {"a": WEIGHT, "b": WEIGHT}, metadata)
    save_tensors(paths[1], {"b": WEIGHT, "a": WEIGHT}, dict(reversed(metadata.items())))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert torch.equal(load_tensors(paths[0])["b"], WEIGHT)


def test_tensors_cut_short_anywhere_are_refused_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": WEIGHT})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"w\.safetensors"):
            load_tensors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip",
        pickle.dumps({"a": 1}),
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0[]",
        (84).to_bytes(8, "little")
        + b'{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'.ljust(84)
        + b"ab",
    ],
    ids=["zip", "pickle", "noise", "no mapping", "unknown type"],
)
def test_foreign_content_is_refused_by_name(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors is not a readable"):
        load_tensors(path)


def test_missing_tensors_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"w\.safetensors cannot be read"):
        load_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("mask", [Mask(), Mask({"a": WEIGHT > 2, "b": WEIGHT < 0})])
def test_mask_comes_back_equal(tmp_path, mask):
    save_mask(tmp_path / "m.safetensors", mask)
    assert load_mask(tmp_path / "m.safetensors").equal(mask)


@pytest.mark.parametrize("tensor", [WEIGHT, torch.tensor([0, 2]).byte(), torch.tensor([0, 1])])
def test_what_is_not_a_mask_is_refused_by_name(tmp_path, tensor):
    save_tensors(tmp_path / "m.safetensors", {"a": tensor})
    with pytest.raises(UserError, match=r"m\.safetensors is not a mask: 'a'"):
        load_mask(tmp_path / "m.safetensors")
