"""Recipes: expansion, identity, overrides, errors, schema."""

import json

import pytest
import yaml

from wiry.core.errors import UserError
from wiry.core.recipe import expand, kept_lengths, stage_identities
from wiry.core.recipe_file import dump_recipe, load_recipe, parse_recipe
from wiry.core.schema import recipe_schema

DENSE = {"name": "dense", "epochs": 2}
BASE = {"name": "tiny", "data": "digits", "model": "mlp", "stages": [DENSE]}
LEVELS = {
    "name": "level",
    "levels": 3,
    "start": {"weights": "dense@0it", "mask": "previous", "score": "previous"},
    "sparsifier": {"name": "prune-rate", "rate": 0.2},
}


def test_levels_are_written_out_and_previous_is_resolved():
    stages = expand(parse_recipe(BASE | {"stages": [DENSE, LEVELS]}))
    assert [s.name for s in stages] == ["dense", "level-1", "level-2", "level-3"]
    assert [s.start.score for s in stages] == ["", "dense", "level-1", "level-2"]
    assert kept_lengths(stages, "dense") == {"0it"}


def test_the_identity_ignores_defaults_spelt_out_and_is_pinned():
    plain = parse_recipe(BASE)
    spelt = parse_recipe(
        BASE | {"seed": 0, "stages": [DENSE | {"batch_size": 128, "objective": "natural"}]}
    )
    assert plain.identity() == spelt.identity() == "5bb8a55d"
    assert parse_recipe(BASE | {"seed": 1}).identity() != plain.identity()


def test_a_stage_identity_covers_what_it_builds_upon_and_nothing_else():
    def identity(name, dense_epochs=2, later=0.2):
        stages = [
            {"name": "dense", "epochs": dense_epochs},
            {"name": "one", "start": {"weights": "dense"}},
            {
                "name": "two",
                "start": {"weights": "one"},
                "sparsifier": {"name": "prune-rate", "rate": later},
            },
        ]
        recipe = parse_recipe(BASE | {"stages": stages})
        return stage_identities(recipe, expand(recipe))[name]

    assert identity("one") == identity("one", later=0.5)
    assert identity("one") != identity("one", dense_epochs=3)
    assert identity("two") != identity("two", later=0.5)


def test_a_dumped_recipe_is_the_same_recipe(tmp_path):
    recipe = parse_recipe(BASE | {"stages": [DENSE, LEVELS]})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    again = load_recipe(tmp_path / "r.yaml")
    assert again == recipe
    assert again.identity() == recipe.identity()


def test_overrides_reach_lists_and_components():
    recipe = parse_recipe(
        BASE, ["stages.0.epochs=7", "stages.0.optimizer.lr=1/4", "model.widths=[5]"]
    )
    assert recipe.stages[0].epochs == 7
    assert recipe.model == {"name": "mlp", "widths": [5]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"modle": "mlp"}, "closest: 'model'"),
        ({"stages": [{"name": "a", "epoch": 3}]}, "closest: 'epochs'"),
        ({"stages": [{"name": "a", "start": {"weigths": "init"}}]}, "closest: 'weights'"),
        ({"stages": []}, "stages"),
        ({"stages": [{"name": "a", "epochs": -1}]}, "stages.0.epochs"),
        ({"stages": [DENSE, DENSE]}, "used twice"),
        ({"stages": [{"name": "a", "start": {"weights": "dense"}}]}, "no earlier stage"),
        ({"stages": [{"name": "a", "start": {"mask": "previous"}}]}, "first stage"),
        ({"stages": [DENSE, {"name": "b", "start": {"weights": "dens"}}]}, "closest: 'dense'"),
        ({"stages": [DENSE, {"name": "b", "start": {"weights": "dense@5"}}]}, "500it"),
        ({"stages": [DENSE, {"name": "b", "start": {"mask": "dense:mixed"}}]}, ":shuffled"),
        ({"seed": -1}, "seed"),
        ({"name": "../escape"}, "name"),
        ({"data": "digit"}, "closest: 'digits'"),
        ({"plugins": ["no_such_module_here"]}, "cannot be imported"),
        ({"plugins": "x"}, "plugins"),
    ],
)
def test_a_bad_recipe_is_refused_with_one_line(change, expected):
    with pytest.raises(UserError) as error:
        parse_recipe(BASE | change)
    assert expected in str(error.value)


def test_the_schema_is_json_and_names_every_component():
    schema = recipe_schema()
    text = json.dumps(schema)
    assert "component-sparsifier" in schema["$defs"]
    assert '"component"' not in text
    for name in ("magnitude", "digits", "mlp", "adam"):
        assert f'"const": "{name}"' in text


def test_yaml_written_by_a_person_loads(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(BASE))
    assert load_recipe(path).stages[0].name == "dense"
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
    path.write_text("a: [1, 2")
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(path)


def test_an_override_changes_one_stage_where_yaml_shares_by_an_anchor(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: tiny\ndata: digits\nmodel: mlp\nstages:\n"
        "  - &dense {name: a, optimizer: {name: sgd, lr: 0.1}}\n"
        "  - {<<: *dense, name: b}\n"
    )
    recipe = load_recipe(path, ["stages.1.optimizer.lr=0.5"])
    assert [stage.optimizer.get("lr") for stage in recipe.stages] == [None, 0.5]


def test_a_key_written_twice_and_an_empty_file_are_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(UserError, match="'name' is there twice"):
        load_recipe(path)
    path.write_text("")
    with pytest.raises(UserError, match="is empty"):
        load_recipe(path)
