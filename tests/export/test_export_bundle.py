"""Bundles: what is written, that it comes back bit-equal, that it appears whole."""

import json

import pytest
import torch
from tests.export.example import KEPT, recipe, trained, write

import wiry.export.bundle
from wiry.core.errors import UserError
from wiry.core.files import checksum
from wiry.core.mask import Mask
from wiry.core.recipe_file import load_recipe
from wiry.core.tensors import load_mask, load_tensors
from wiry.export.load import load

FILES = ["bundle.json", "card.json", "card.md", "mask.safetensors", "recipe.yaml"]
FILES += ["weights.safetensors"]


def test_model_comes_back_bit_equal_and_masked(tmp_path):
    model = trained()
    write(tmp_path / "best", model=model)
    loaded = load(tmp_path / "best")
    Mask({"head.weight": KEPT}).apply_(model)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(images), model.eval()(images))


def test_folder_holds_the_named_files_with_their_checksums(tmp_path):
    write(tmp_path / "best")
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == FILES
    manifest = json.loads((tmp_path / "best" / "bundle.json").read_text())
    assert sorted(manifest["files"]) == FILES[1:]
    for name, digest in manifest["files"].items():
        assert checksum(tmp_path / "best" / name) == digest
    assert manifest["model"] == {"name": "mlp", "widths": [3]}
    assert (manifest["input_shape"], manifest["num_classes"]) == ([1, 2, 2], 2)
    assert manifest["statistics"] == {"mean": [0.5], "std": [0.25]}
    assert load_recipe(tmp_path / "best" / "recipe.yaml") == recipe()
    assert load_mask(tmp_path / "best" / "mask.safetensors")["head.weight"].equal(KEPT)
    assert not load_tensors(tmp_path / "best" / "weights.safetensors")["head.weight"][~KEPT].any()


def test_writing_does_not_change_the_model(tmp_path):
    model = trained().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write(tmp_path / "best", model=model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_older_bundle_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    write(tmp_path / "best")
    (tmp_path / "best" / "old.txt").write_text("old")
    model = trained()
    with torch.no_grad():
        model.head.bias += 1
    write(tmp_path / "best", model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == FILES
    assert torch.equal(load(tmp_path / "best").head.bias, model.head.bias)


@pytest.mark.parametrize("step", ["write_manifest", "card_text", "_check_loads"])
def test_failed_writing_leaves_the_older_bundle_and_nothing_else(tmp_path, monkeypatch, step):
    write(tmp_path / "best")
    before = (tmp_path / "best" / "bundle.json").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(wiry.export.bundle, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (tmp_path / "best" / "bundle.json").read_bytes() == before
    load(tmp_path / "best")


def test_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not a bundle"):
        write(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    with pytest.raises(UserError, match="is a file"):
        write(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mask": Mask({"other": KEPT})}, "'other'"),
        ({"mask": Mask({"head.weight": KEPT[:1]})}, "head.weight"),
        ({"model_spec": {"name": "mlp", "widths": [4]}}, "hidden.0.weight"),
        ({"class_names": ("a", "b", "c")}, "head.weight"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_leaves_nothing(tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        write(tmp_path / "best", **changes)
    assert not list(tmp_path.iterdir())
