"""The recipes that are shipped: pinned identities, and the schema that editors use."""

import json
import re

import pytest
import yaml
from tests.cli.commands import HOUSE, TINY, error_line, write

from wiry.cli import run
from wiry.core.recipe_file import load_recipe

# A changed identity orphans the runs people have: change a line only with a line in CHANGELOG.md.
IDENTITIES = {
    "recipes/mnist-mlp-lottery-fgsm-dense-short.yaml": "da70941b",
    "recipes/mnist-mlp-lottery-fgsm-dense.yaml": "9c5a44f9",
    "recipes/mnist-mlp-lottery-fgsm-init-short.yaml": "01bf4572",
    "recipes/mnist-mlp-lottery-fgsm-init.yaml": "6d92569a",
    "recipes/mnist-mlp-lottery-pgd-dense-short.yaml": "ceb02dae",
    "recipes/mnist-mlp-lottery-pgd-dense.yaml": "58f17081",
    "recipes/mnist-mlp-lottery-pgd-init-short.yaml": "d5625a85",
    "recipes/mnist-mlp-lottery-pgd-init.yaml": "ddce3f2b",
    "presets/cifar10.yaml": "96c9a68a",
    "presets/digits.yaml": "2aedaf0f",
    "presets/fashion-mnist.yaml": "95626568",
    "presets/mnist.yaml": "5bc5f461",
}
SHIPPED = sorted(
    [*(HOUSE / "recipes").rglob("*.yaml"), *(HOUSE / "src/wiry/sweep/presets").glob("*.yaml")]
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
