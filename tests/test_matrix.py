"""Every sparsifier x objective x model: exact budget, finite loss, state that saves and resumes.

New sparsifiers are picked up from the registry. The runs are three batches of twenty images. Two
ranks, each with half of every batch, end with the same mask and the same weights.
"""

import math

import pytest
import torch

from tests.train.ranks import states, train_on_ranks
from tests.train.tiny import artifacts
from wiry.core.mask import num_alive, prunable
from wiry.core.recipe_file import parse_recipe
from wiry.core.registry import registry
from wiry.core.run import read_metrics
from wiry.core.state import SparseState
from wiry.train.stages import Session, load_stage, train

ATTACK = {"name": "pgd", "eps": 0.1, "steps": 2}
OBJECTIVES = {
    "adversarial": {"name": "adversarial", "attack": ATTACK},
    "trades": {"name": "trades", "attack": ATTACK | {"loss": "kl"}},
    "free": {"name": "free", "eps": 0.1, "replays": 2},
}
MODELS = {
    "mlp": {"name": "mlp", "widths": [16]},
    "cnn-small": {"name": "cnn-small", "width": 4},
    "resnet18": {"name": "resnet18", "width": 4},
}
SPARSITY = 0.77
RESUMED_ON = ("trades", "cnn-small")  # batch normalisation, and randomness in the attack


NEEDS_BATCH_NORM = {"slimming"}


def sparsifiers(model):
    """Return the sparsifiers that a model of the matrix can be trained with."""
    names = registry("sparsifier").names()
    return [n for n in names if model != "mlp" or n not in NEEDS_BATCH_NORM]


def with_budget(sparsifier):
    """Return a sparsifier's spec, with a sparsity that gives no round count where it has one."""
    if "sparsity" in registry("sparsifier").signature(sparsifier):
        return {"name": sparsifier, "sparsity": SPARSITY}
    return {"name": sparsifier}


def recipe_of(sparsifier, objective, model, *, optimizer="adam"):
    return parse_recipe(
        {
            "name": "matrix",
            "data": {"name": "digits", "num_train": 60},
            "model": MODELS[model],
            "stages": [
                {
                    "name": "dense",
                    "epochs": 1,
                    "batch_size": 20,
                    "objective": OBJECTIVES[objective],
                    "sparsifier": with_budget(sparsifier),
                    "optimizer": optimizer,
                }
            ],
            "monitor": {"num_samples": 20},
        }
    )


class Watch:
    """An observer that keeps the training it watches and counts batches."""

    def __init__(self, stop_after=None):
        self.training, self.num_batches, self.stop_after = None, 0, stop_after

    def __call__(self, training):
        self.training = training
        self.num_batches += 1
        if self.num_batches == self.stop_after:
            raise InterruptedError("stopped by the test")


def check_budget(model, mask, budget="exact"):
    """Check for the number of weights that the sparsity leaves, as the sparsifier promises it."""
    total = sum(p.numel() for p in prunable(model).values())
    wanted = total - round(SPARSITY * total)
    if budget == "exact":
        assert num_alive(model, mask) == wanted
    elif budget == "at-most":
        assert num_alive(model, mask) <= wanted
        assert all(mask[name].any() for name in prunable(model) if name in mask)


def check_zero_where_masked(model, mask):
    """Check that no pruned weight is left, and that no trained parameter is NaN."""
    parameters = dict(model.named_parameters())
    for name, value in mask.items():
        assert not parameters[name][~value].any(), name
    assert all(torch.isfinite(p).all() for p in parameters.values())


def check_state_round_trips(state):
    """Check that a fresh state that loads the saved one saves the same, generator included."""
    saved = state.state_dict()
    again = SparseState()
    again.load_state_dict(saved)
    assert again.mask.equal(state.mask)
    assert (again.step, again.total_steps) == (state.step, state.total_steps)
    assert again.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(again.tensors[n], state.tensors[n]) for n in state.tensors)
    assert torch.equal(again.generator.get_state(), state.generator.get_state())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("model", "sparsifier"), [(model, name) for model in MODELS for name in sparsifiers(model)]
)
def test_a_sparsifier_keeps_its_promises(sparsifier, objective, model, tmp_path):
    recipe = recipe_of(sparsifier, objective, model)
    watch = Watch()
    run = train(recipe, tmp_path, Session(observers=(watch,)))
    assert watch.num_batches == 3
    (row,) = read_metrics(run.stage_dir("dense") / "metrics.jsonl")
    assert math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"])
    trained, mask = load_stage(run, "dense")
    if "sparsity" in recipe.stages[0].sparsifier:
        budget = registry("sparsifier").get(sparsifier).budget
        check_budget(trained, mask, budget)
    check_zero_where_masked(trained, mask)
    check_state_round_trips(watch.training.state)
    kept, fresh = trained.state_dict(), watch.training.model.state_dict()
    assert kept.keys() == fresh.keys()
    assert all(torch.equal(kept[name], fresh[name]) for name in kept)


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("sparsifier", sparsifiers(RESUMED_ON[1]))
def test_a_resumed_run_equals_an_uninterrupted_one(sparsifier, cut, tmp_path):
    recipe = recipe_of(sparsifier, *RESUMED_ON)
    whole = artifacts(train(recipe, tmp_path / "whole"))
    eager = Session(checkpoint_seconds=0.0)
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "cut", Session(checkpoint_seconds=0.0, observers=(Watch(cut),)))
    assert artifacts(train(recipe, tmp_path / "cut", eager)) == whole


def test_two_ranks_end_with_the_same_masks_and_weights(tmp_path):
    names = registry("sparsifier").names()
    train_on_ranks([recipe_of(name, *RESUMED_ON) for name in names], tmp_path)
    for number, name in enumerate(names):
        first, second = states(tmp_path / str(number), "dense")
        for part in ("mask", "weights"):
            assert first[part].keys() == second[part].keys(), name
            for key, value in first[part].items():
                assert torch.equal(value, second[part][key]), (name, part, key)


def test_ranks_see_other_images_and_average_their_gradients(tmp_path):
    """Without batch statistics and attack noise two ranks take the step that one rank takes."""
    recipe = recipe_of("magnitude", "adversarial", "mlp").model_dump(exclude_defaults=True)
    stage = recipe["stages"][0] | {"objective": "natural", "optimizer": {"name": "sgd", "lr": 0.1}}
    recipe = parse_recipe(recipe | {"stages": [stage | {"batch_size": 19}]})
    train_on_ranks([recipe], tmp_path / "two")
    model, _ = load_stage(train(recipe, tmp_path / "one"), "dense")
    for two in states(tmp_path / "two" / "0", "dense"):
        for name, value in model.state_dict().items():
            assert torch.allclose(two["weights"][name], value, atol=1e-6), name


@pytest.mark.parametrize("optimizer", ["adam", {"name": "sgd", "lr": 0.01, "weight_decay": 0.01}])
@pytest.mark.parametrize("sparsifier", ["magnitude", "prune-rate"])
def test_momentum_stays_zero_at_pruned_places(sparsifier, optimizer, tmp_path):
    """Momentum that grows unseen would act at once where a later method grows a weight back."""
    watch = Watch()
    recipe = recipe_of(sparsifier, "adversarial", "resnet18", optimizer=optimizer)
    train(recipe, tmp_path, Session(observers=(watch,)))
    training = watch.training
    parameters = dict(training.model.named_parameters())
    num_checked = 0
    for name, kept in training.state.mask.items():
        for key in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            value = training.optimizer.state[parameters[name]].get(key)
            if value is not None:
                assert not value[~kept].any(), (name, key)
                assert value[kept].any(), (name, key)
                num_checked += 1
    assert num_checked >= len(training.state.mask) > 0


def test_momentum_stays_zero_under_a_fixed_start_mask(tmp_path):
    watch = Watch()
    recipe = recipe_of("fixed", "adversarial", "mlp").model_dump(exclude_defaults=True)
    first = recipe["stages"][0] | {"sparsifier": with_budget("magnitude")}
    second = recipe["stages"][0] | {
        "name": "fixed",
        "start": {"weights": "dense@0it", "mask": "dense:shuffled"},
    }
    train(
        parse_recipe(recipe | {"stages": [first, second]}),
        tmp_path,
        Session(observers=(watch,)),
    )
    training = watch.training
    assert training.name == "fixed"
    check_budget(training.model, training.state.mask)
    for name, kept in training.state.mask.items():
        state = training.optimizer.state[training.model.get_parameter(name)]
        assert not state["exp_avg"][~kept].any() and state["exp_avg"].any()
