"""Files that a person changed by hand are refused by name, or restored."""

import json

import pytest
import torch
from tests.train.tiny import artifacts, tiny_recipe

from wiry.core.errors import UserError
from wiry.core.run import Run
from wiry.data.base import Dataset
from wiry.train.stages import load_stage, train


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"files": null}', "{", '{"files": {}, "identity": "x"}']
)
def test_a_changed_done_mark_is_refused_by_name(content, tmp_path):
    run = train(tiny_recipe(epochs=1), tmp_path)
    (run.stage_dir("dense") / "DONE").write_text(content)
    for job in (lambda: load_stage(run, "dense"), lambda: train(tiny_recipe(epochs=1), tmp_path)):
        with pytest.raises(UserError, match="DONE"):
            job()


def test_a_changed_recipe_is_refused_and_training_restores_it(tmp_path):
    recipe = tiny_recipe(epochs=1)
    run = train(recipe, tmp_path)
    path = run.root / "recipe.yaml"
    path.write_text(path.read_text().replace("- 16", "- 17"))
    with pytest.raises(UserError, match="was changed"):
        Run.open(run.root)
    again = train(recipe, tmp_path)
    assert artifacts(Run.open(again.root)) == artifacts(run)


def test_weights_of_another_model_are_refused(tmp_path):
    run = train(tiny_recipe(epochs=1), tmp_path / "a")
    other = train(tiny_recipe(epochs=1, model={"name": "mlp", "widths": [17]}), tmp_path / "b")
    target = run.stage_dir("dense")
    (target / "weights.safetensors").write_bytes(
        (other.stage_dir("dense") / "weights.safetensors").read_bytes()
    )
    done = json.loads((target / "DONE").read_text())
    done["files"] = json.loads((other.stage_dir("dense") / "DONE").read_text())["files"]
    (target / "DONE").write_text(json.dumps(done))
    with pytest.raises(UserError, match="does not fit"):
        load_stage(run, "dense")


@pytest.mark.parametrize("batch_size", [1, 895])
def test_a_batch_of_one_with_batch_normalisation_is_refused(batch_size, tmp_path):
    with pytest.raises(UserError, match="batch of one"):
        train(tiny_recipe(model="cnn-small", batch_size=batch_size), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": torch.full((2, 1, 2, 2), 7.0)}, "pixels"),
        ({"train_x": torch.zeros(2, 4)}, "float32"),
        ({"test_y": torch.tensor([0, 5])}, "class names"),
        (
            {"validation_x": torch.zeros(0, 1, 2, 2), "validation_y": torch.zeros(0).long()},
            "at least one",
        ),
        ({"test_x": torch.zeros(2, 1, 3, 3)}, "one size"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_refused(change, message):
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    fields = {
        f"{split}_{k}": v
        for split in ("train", "validation", "test")
        for k, v in (("x", x), ("y", y))
    }
    Dataset(name="fine", class_names=("a", "b"), **fields)
    with pytest.raises(ValueError, match=message):
        Dataset(name="broken", class_names=("a", "b"), **fields | change)
