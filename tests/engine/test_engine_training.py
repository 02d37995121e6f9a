"""Trainings whose attacks search on the sparse weights: resumed alike, and like dense ones."""

import pytest
from tests.train.test_train_resume import interrupted
from tests.train.tiny import artifacts, tiny_recipe

from wiry.core.run import read_metrics
from wiry.train.stages import train

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")

ATTACK = {"name": "pgd", "eps": 0.1, "steps": 3}
OBJECTIVES = {
    "adversarial": {"natural_weight": 0.5},
    "trades": {"attack": ATTACK | {"loss": "kl", "random_start": False}},
    "mart": {},
    "awp": {"objective": {"name": "adversarial", "attack": ATTACK}},
    "distillation": {},
}


def recipe(engine, *, sparsifier="rigl", objective="adversarial"):
    own = {} if objective == "awp" else {"attack": ATTACK}
    stage = {
        "name": "sparse",
        "epochs": 2,
        "engine": engine,
        "objective": {"name": objective} | own | OBJECTIVES[objective],
        "sparsifier": {"name": sparsifier, "sparsity": 0.8},
    }
    stages = [{"name": "teacher", "epochs": 0}, stage]
    if objective == "distillation":
        stage["teacher"] = "teacher"
    recipe = tiny_recipe(stages=stages, model={"name": "cnn-small", "width": 8})
    monitor = recipe.monitor.model_copy(update={"attack": ATTACK})
    return recipe.model_copy(update={"monitor": monitor})


@pytest.mark.parametrize("sparsifier", ["rigl", "hydra", "gradual"])
def test_a_training_on_the_engine_resumes_bit_for_bit(sparsifier, tmp_path):
    whole = train(recipe("sparse", sparsifier=sparsifier), tmp_path / "whole")
    cut = interrupted(recipe("sparse", sparsifier=sparsifier), tmp_path / "cut", 4)
    assert artifacts(cut) == artifacts(whole)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_on_the_engine_are_those_of_dense_attacks(objective, tmp_path):
    rows = []
    for engine in ("dense", "sparse"):
        run = train(recipe(engine, objective=objective), tmp_path / engine)
        rows.append(read_metrics(run.stage_dir("sparse") / "metrics.jsonl"))
    assert len(rows[0]) == 2
    for dense, sparse in zip(*rows, strict=True):
        for name in ("train_loss", "validation_robust_loss"):
            assert sparse[name] == pytest.approx(dense[name], rel=2e-3), name
