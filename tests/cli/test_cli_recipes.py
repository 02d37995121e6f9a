"""The recipes that are shipped: pinned identities, and the schema that editors use."""

import json
import re

import numpy as np
import pooch
import pytest
import yaml
from tests.cli.commands import HOUSE, TINY, error_line, write

from wiry.cli import run
from wiry.core.recipe import expand
from wiry.core.recipe_file import load_recipe
from wiry.data import cifar10

# A changed identity orphans the runs people have: change a line only with a line in CHANGELOG.md.
IDENTITIES = {
    "recipes/cifar10-resnet18-admm-90-smoke.yaml": "7140791e",
    "recipes/cifar10-resnet18-admm-90.yaml": "6fc1e1da",
    "recipes/cifar10-resnet18-bayesian-connectivity-90-smoke.yaml": "c88734bf",
    "recipes/cifar10-resnet18-bayesian-connectivity-90.yaml": "d2472abe",
    "recipes/cifar10-resnet18-boosting-ticket-90-smoke.yaml": "e373ee6a",
    "recipes/cifar10-resnet18-boosting-ticket-90.yaml": "bcc985ab",
    "recipes/cifar10-resnet18-flying-bird-90-smoke.yaml": "028393b2",
    "recipes/cifar10-resnet18-flying-bird-90.yaml": "4a6ec0be",
    "recipes/cifar10-resnet18-flying-bird-95.yaml": "de60ccef",
    "recipes/cifar10-resnet18-flying-bird-99.yaml": "a6ab950c",
    "recipes/cifar10-resnet18-flying-bird-plus-90-smoke.yaml": "cf0f3363",
    "recipes/cifar10-resnet18-flying-bird-plus-90.yaml": "f87f90dc",
    "recipes/cifar10-resnet18-harp-90-smoke.yaml": "a3f08643",
    "recipes/cifar10-resnet18-harp-90.yaml": "11aab82b",
    "recipes/cifar10-resnet18-harp-95.yaml": "b4ff5c23",
    "recipes/cifar10-resnet18-harp-99.yaml": "b52a604c",
    "recipes/cifar10-resnet18-hydra-90-smoke.yaml": "cea0a465",
    "recipes/cifar10-resnet18-hydra-90.yaml": "eab62424",
    "recipes/cifar10-resnet18-hydra-95.yaml": "b171d78c",
    "recipes/cifar10-resnet18-hydra-99.yaml": "f0d5a0b0",
    "recipes/cifar10-resnet18-lwm-90-smoke.yaml": "b54e66de",
    "recipes/cifar10-resnet18-lwm-90.yaml": "c8ee0c06",
    "recipes/cifar10-resnet18-mad-90-smoke.yaml": "c6c29047",
    "recipes/cifar10-resnet18-mad-90.yaml": "89898351",
    "recipes/cifar10-resnet18-pwoa-90-smoke.yaml": "165a7c79",
    "recipes/cifar10-resnet18-pwoa-90.yaml": "d976798e",
    "recipes/cifar10-resnet18-robust-bird-90-smoke.yaml": "d3510893",
    "recipes/cifar10-resnet18-robust-bird-90.yaml": "d7e46fdf",
    "recipes/cifar10-resnet18-scratch-ticket-90-smoke.yaml": "76a48cbf",
    "recipes/cifar10-resnet18-scratch-ticket-90.yaml": "4fa026fc",
    "recipes/cifar10-resnet18-twin-90-smoke.yaml": "d0b6a82c",
    "recipes/cifar10-resnet18-twin-90.yaml": "a9f10227",
    "recipes/cifar10-vgg16-admm-90-smoke.yaml": "b26aefd6",
    "recipes/cifar10-vgg16-admm-90.yaml": "adaa5467",
    "recipes/cifar10-vgg16-bayesian-connectivity-90-smoke.yaml": "d84c831c",
    "recipes/cifar10-vgg16-bayesian-connectivity-90.yaml": "c16576f8",
    "recipes/cifar10-vgg16-boosting-ticket-90-smoke.yaml": "2acc23b1",
    "recipes/cifar10-vgg16-boosting-ticket-90.yaml": "c5d01460",
    "recipes/cifar10-vgg16-flying-bird-90-smoke.yaml": "2e9ab6e5",
    "recipes/cifar10-vgg16-flying-bird-90.yaml": "19caca06",
    "recipes/cifar10-vgg16-flying-bird-95.yaml": "63405de4",
    "recipes/cifar10-vgg16-flying-bird-99.yaml": "56f872e7",
    "recipes/cifar10-vgg16-flying-bird-plus-90-smoke.yaml": "58883873",
    "recipes/cifar10-vgg16-flying-bird-plus-90.yaml": "c16f9a46",
    "recipes/cifar10-vgg16-harp-90-smoke.yaml": "2c41653d",
    "recipes/cifar10-vgg16-harp-90.yaml": "dfa3e523",
    "recipes/cifar10-vgg16-harp-95.yaml": "c9a1b45d",
    "recipes/cifar10-vgg16-harp-99.yaml": "610f62e8",
    "recipes/cifar10-vgg16-hydra-90-smoke.yaml": "78f3dbe5",
    "recipes/cifar10-vgg16-hydra-90.yaml": "dc6a36fe",
    "recipes/cifar10-vgg16-hydra-95.yaml": "283f2320",
    "recipes/cifar10-vgg16-hydra-99.yaml": "fd5b983d",
    "recipes/cifar10-vgg16-lwm-90-smoke.yaml": "9ec1cadb",
    "recipes/cifar10-vgg16-lwm-90.yaml": "9a65fc06",
    "recipes/cifar10-vgg16-mad-90-smoke.yaml": "fe1ed813",
    "recipes/cifar10-vgg16-mad-90.yaml": "e9adfd5b",
    "recipes/cifar10-vgg16-pwoa-90-smoke.yaml": "8659fdb2",
    "recipes/cifar10-vgg16-pwoa-90.yaml": "e46cb41e",
    "recipes/cifar10-vgg16-robust-bird-90-smoke.yaml": "d8aebdc0",
    "recipes/cifar10-vgg16-robust-bird-90.yaml": "3bb8f3fe",
    "recipes/cifar10-vgg16-scratch-ticket-90-smoke.yaml": "988da9cb",
    "recipes/cifar10-vgg16-scratch-ticket-90.yaml": "3da07ffc",
    "recipes/cifar10-vgg16-twin-90-smoke.yaml": "9c696d36",
    "recipes/cifar10-vgg16-twin-90.yaml": "a521add1",
    "recipes/mnist-mlp-lottery-fgsm-dense-short.yaml": "da70941b",
    "recipes/mnist-mlp-lottery-fgsm-dense.yaml": "9c5a44f9",
    "recipes/mnist-mlp-lottery-fgsm-init-short.yaml": "01bf4572",
    "recipes/mnist-mlp-lottery-fgsm-init.yaml": "6d92569a",
    "recipes/cifar10-cnn-small-bayesian-connectivity-short.yaml": "4e56077d",
    "recipes/fashion-mnist-lenet5-inheritance.yaml": "2ad7a3a0",
    "recipes/mnist-lenet5-inheritance.yaml": "a2673d91",
    "recipes/mnist-mlp-lottery-pgd-dense-short.yaml": "ceb02dae",
    "recipes/mnist-mlp-lottery-pgd-dense.yaml": "58f17081",
    "recipes/mnist-mlp-lottery-pgd-init-short.yaml": "d5625a85",
    "recipes/mnist-mlp-lottery-pgd-init.yaml": "ddce3f2b",
    "presets/cifar10.yaml": "96c9a68a",
    "presets/compare/digits.yaml": "609738ad",
    "presets/digits.yaml": "2aedaf0f",
    "presets/fashion-mnist.yaml": "95626568",
    "presets/mnist.yaml": "5bc5f461",
}
SHIPPED = sorted(
    [*(HOUSE / "recipes").rglob("*.yaml"), *(HOUSE / "src/wiry/sweep/presets").rglob("*.yaml")]
)


def place(path):
    return path.relative_to(HOUSE).as_posix().removeprefix("src/wiry/sweep/")


def test_every_shipped_recipe_has_its_pinned_identity():
    assert {place(path): load_recipe(path).identity() for path in SHIPPED} == IDENTITIES


def fits(schema, value, root):
    """Say whether plain data fits a JSON schema, for the few words that ours uses."""
    if "$ref" in schema:
        return fits(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return any(fits(option, value, root) for option in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    types |= {"number": (int, float), "null": type(None)}
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, bool) and schema.get("type") in ("integer", "number"):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        enough = len(value) >= schema.get("minItems", 0)
        return enough and all(fits(schema.get("items", {}), item, root) for item in value)
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if not set(schema.get("required", [])) <= set(value):
            return False
        if more is False and not set(value) <= set(known):
            return False
        rest = more if isinstance(more, dict) else {}
        return all(fits(known.get(key, rest), item, root) for key, item in value.items())
    return True


@pytest.fixture(scope="module")
def schema():
    from wiry.core.schema import recipe_schema

    return json.loads(json.dumps(recipe_schema()))


def test_schema_prints_the_schema(schema, capsys):
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema


@pytest.mark.parametrize("path", SHIPPED, ids=place)
def test_the_schema_accepts_every_shipped_recipe(path, schema):
    assert fits(schema, yaml.safe_load(path.read_text()), schema)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "No Spaces"},
        {"seed": -1},
        {"stages": []},
        {"stages": [{"epochs": 3}]},
        {"stages": [{"name": "a", "epoch": 3}]},
        {"stages": [{"name": "a", "sparsifier": {"name": "magnitude", "sparsit": 0.5}}]},
        {"stages": [{"name": "a", "optimizer": "adamm"}]},
        {"model": {"name": "mlp", "widths": "wide"}},
        {"modle": "mlp"},
    ],
)
def test_the_schema_refuses_what_the_command_refuses(change, schema, tmp_path, capsys):
    assert fits(schema, TINY, schema)
    assert not fits(schema, TINY | change, schema)
    assert run(["show", str(write(tmp_path / "r.yaml", TINY | change))]) == 2
    error_line(capsys)


SHORT = sorted((HOUSE / "recipes").glob("cifar10-*-smoke.yaml"))


@pytest.mark.parametrize("path", SHORT, ids=place)
def test_a_short_recipe_has_the_stages_and_settings_of_the_long_one(path):
    short = load_recipe(path)
    long = load_recipe(path.with_name(path.name.replace("-smoke", "")))
    assert short.name == path.stem and long.name == f"{short.name.removesuffix('-smoke')}"
    for mine, theirs in zip(expand(short), expand(long), strict=True):
        assert mine.epochs == 1 <= theirs.epochs
        assert mine == theirs.model_copy(update={"epochs": 1})


@pytest.mark.parametrize("method", ["harp", "flying-bird", "hydra"])
@pytest.mark.parametrize("model", ["resnet18", "vgg16"])
def test_the_sparsities_of_a_recipe_differ_in_nothing_else(model, method):
    folder, base = HOUSE / "recipes", f"cifar10-{model}-{method}"
    recipes = {s: load_recipe(folder / f"{base}-{s}.yaml") for s in (90, 95, 99)}
    for sparsity, recipe in recipes.items():
        (where,) = [i for i, s in enumerate(recipe.stages) if s.sparsifier["name"] == method]
        change = [f"stages.{where}.sparsifier.sparsity={sparsity / 100}"]
        assert load_recipe(folder / f"{base}-90.yaml", change).stages == recipe.stages


@pytest.mark.parametrize("name", ["resnet18-flying-bird-plus", "vgg16-hydra"])
def test_a_short_recipe_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar10, "NUM_RECORDS", 70)  # of 10,000: 350 images to train, 70 to test
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for file in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES):
        records = noise.integers(0, 256, (70, cifar10.RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / file).write_bytes(records.tobytes())
    path = HOUSE / "recipes" / f"cifar10-{name}-90-smoke.yaml"
    assert run(["train", str(path), "--out", str(tmp_path / "runs"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["stages"].values()
    assert 0.09 <= result["cost"]["mask_density"] <= 0.1001
