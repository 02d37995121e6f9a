"""Whatever is wrong with a bundle is refused by the name of the file."""

import hashlib
import json
import pickle
import shutil

import pytest
import torch
from tests.export.example import write

from wiry.core.errors import UserError
from wiry.core.files import checksum
from wiry.core.tensors import load_tensors, save_tensors
from wiry.export.load import load

FILES = ["bundle.json", "card.json", "card.md", "mask.safetensors", "recipe.yaml"]
FILES += ["weights.safetensors"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "original"
    write(folder)
    return folder


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / "bundle")


def seal(bundle, **changes):
    """Write a manifest with changes and with all its checksums right."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    del manifest["manifest_sha256"]
    manifest["files"] = {name: checksum(bundle / name) for name in manifest["files"]}
    manifest = {key: v for key, v in (manifest | changes).items() if v is not None}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(manifest | {"manifest_sha256": digest}))


def test_undamaged_and_resealed_bundles_load(bundle):
    load(bundle)
    seal(bundle)
    load(str(bundle))


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_is_refused_by_name(bundle, file):
    path = bundle / file
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        flipped = whole[place] ^ (1 << place % 8)
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        if file == "bundle.json" and is_same_json(whole, path.read_bytes()):
            continue
        with pytest.raises(UserError, match=file):
            load(bundle)


def is_same_json(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_file_cut_short_is_refused_by_name(bundle, file, share):
    whole = (bundle / file).read_bytes()
    (bundle / file).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=file):
        load(bundle)


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_refused_by_name(bundle, file):
    (bundle / file).unlink()
    with pytest.raises(UserError, match=file):
        load(bundle)


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="is not a bundle"):
            load(folder)


@pytest.mark.parametrize("file", ["weights.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x05\x95" + b"\0" * 40])
def test_foreign_file_with_the_right_checksum_is_refused_by_name(bundle, file, content):
    (bundle / file).write_bytes(content)
    seal(bundle)
    with pytest.raises(UserError, match=file) as caught:
        load(bundle)
    assert caught.value.__suppress_context__ or caught.value.__cause__


class Bomb:
    """Leaves a trace when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("file", ["weights.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("how", [pickle.dump, torch.save])
def test_nothing_is_unpickled(bundle, tmp_path, file, how):
    with (bundle / file).open("wb") as opened:
        how({"head.weight": Bomb(tmp_path / "trace")}, opened)
    seal(bundle)
    with pytest.raises(UserError, match=file):
        load(bundle)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": "zip"}, "not the bundle.json of a wiry bundle"),
        ({"format_version": 2}, "format version 2"),
        ({"model": None}, "model is missing"),
        ({"model": "mlp"}, "model is missing or malformed"),
        ({"model": {"name": "mpl"}}, "closest: 'mlp'"),
        ({"model": {"name": "mlp", "widths": [-1]}}, "widths"),
        ({"model": {"name": "mlp", "widths": [5]}}, r"weights\.safetensors: 'hidden.0.weight'"),
        ({"model": {"name": "mlp", "widths": [3], "bias": False}}, r"safetensors has 'head.bias'"),
        ({"model": {"name": "mlp", "widths": [3, 3]}}, r"weights\.safetensors lacks 'hidden.2"),
        ({"plugins": ["mine"], "model": {"name": "my-net"}}, r"plugins \['mine'\]"),
        ({"input_shape": [2, 2]}, "input_shape"),
        ({"input_shape": [1, 2, -2]}, "input_shape"),
        ({"input_shape": [1, 2, 2.5]}, "input_shape"),
        ({"num_classes": 3}, "class_names"),
        ({"class_names": ["no", 1]}, "class_names"),
        ({"files": None}, "files"),
        ({"files": {}}, "files"),
    ],
)
def test_manifest_that_does_not_fit_is_refused_by_name(bundle, changes, text):
    seal(bundle, **changes)
    with pytest.raises(UserError, match=rf"(?s)bundle\.json.*{text}|{text}.*bundle\.json"):
        load(bundle)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "..", "sub/file", "sub\\file", "", "C:file"]
)
def test_file_names_cannot_leave_the_folder(bundle, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    secret = checksum(tmp_path / "secret")
    seal(bundle, files=files | {name: secret})
    with pytest.raises(UserError, match="not a file in the bundle"):
        load(bundle)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("head.weight", torch.zeros(2, 4)),
        ("head.weight", torch.zeros(2, 3).double()),
        ("head.other", torch.zeros(1)),
        ("head.weight", None),
    ],
)
def test_weights_of_another_model_are_refused_by_name(bundle, name, tensor):
    weights = load_tensors(bundle / "weights.safetensors") | {name: tensor}
    weights = {key: value for key, value in weights.items() if value is not None}
    save_tensors(bundle / "weights.safetensors", weights)
    seal(bundle)
    with pytest.raises(UserError, match=rf"weights\.safetensors.*{name}"):
        load(bundle)


@pytest.mark.parametrize(
    "entry", [{"head.weight": torch.ones(3, 3).byte()}, {"tail": torch.ones(2, 3).byte()}]
)
def test_mask_of_another_model_is_refused_by_name(bundle, entry):
    save_tensors(bundle / "mask.safetensors", entry)
    seal(bundle)
    with pytest.raises(UserError, match=r"mask\.safetensors"):
        load(bundle)


def test_loading_leaves_the_global_generator_alone(bundle):
    before = torch.random.get_rng_state()
    load(bundle)
    assert torch.equal(before, torch.random.get_rng_state())
