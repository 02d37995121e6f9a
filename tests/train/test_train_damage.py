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


def test_a_corrupted_stage_is_not_taken_over_by_another_run(tmp_path):
    stages = [{"name": "dense", "epochs": 1}]
    first = train(tiny_recipe(stages=stages), tmp_path)
    path = first.stage_dir("dense") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    more = [*stages, {"name": "on", "epochs": 1, "start": {"weights": "dense"}}]
    second = train(tiny_recipe(stages=more), tmp_path)
    assert "linked" not in (second.root / "log.txt").read_text()
    load_stage(second, "on")


def test_a_fresh_draw_is_masked_by_the_scores_of_the_first_initialisation(tmp_path):
    stages = [
        {"name": "old", "epochs": 0},
        {"name": "new", "epochs": 0, "start": {"weights": "reinit", "score": "init"},
         "sparsifier": {"name": "magnitude", "sparsity": 0.5}},
        {"name": "same", "epochs": 0, "sparsifier": {"name": "magnitude", "sparsity": 0.5}},
    ]  # fmt: skip
    run = train(tiny_recipe(stages=stages), tmp_path)
    (new, mask), (same, expected) = load_stage(run, "new"), load_stage(run, "same")
    assert mask.equal(expected)
    assert not torch.equal(new.head.weight, same.head.weight)


def test_a_start_beyond_the_end_of_a_stage_is_refused_before_training(tmp_path):
    stages = [{"name": "dense", "epochs": 1}, {"name": "on", "start": {"weights": "dense@999it"}}]
    with pytest.raises(UserError, match="only 3 batches"):
        train(tiny_recipe(stages=stages), tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_two_names_for_one_length_are_both_kept(tmp_path):
    stages = [
        {"name": "dense", "epochs": 1},
        {"name": "a", "epochs": 0, "start": {"weights": "dense@1ep"}},
        {"name": "b", "epochs": 0, "start": {"weights": "dense@3it"}},
        {"name": "c", "epochs": 0, "start": {"weights": "dense@0ep"}},
    ]
    run = train(tiny_recipe(stages=stages), tmp_path)
    kept = {p.name for p in (run.stage_dir("dense") / "kept").iterdir()}
    assert kept == {f"{length}.safetensors" for length in ("0it", "0ep", "1ep", "3it")}
