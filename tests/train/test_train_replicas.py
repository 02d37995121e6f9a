"""Each of many networks trained as one is, within rounding, what it is when trained alone."""

import shutil

import pytest
import torch
from tests.train.test_train_resume import EAGER, Stop, StopAfter
from tests.train.tiny import tiny_recipe

from wiry.core.errors import Diverged, UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.run import read_metrics
from wiry.core.tensors import load_mask, load_tensors
from wiry.train.observe import measure
from wiry.train.prepare import dataset_of, model_of
from wiry.train.replicas.draws import JointDraws
from wiry.train.replicas.measure import measure_together
from wiry.train.replicas.stack import Stack
from wiry.train.replicas.train import train_together
from wiry.train.stages import Session, train

PGD = {"name": "adversarial", "attack": {"name": "pgd", "eps": 0.1, "steps": 3}}
SGD = {"name": "sgd", "lr": 0.05}
SEEDS = (0, 1, 2)


def stage(name="dense", **fields):
    return {"name": name, "epochs": 2, "objective": PGD, "optimizer": SGD} | fields


def recipes(*stages, seeds=SEEDS, model=None):
    return [tiny_recipe(stages=list(stages), seed=seed, model=model) for seed in seeds]


def log(run):
    return (run.root / "log.txt").read_text()


def files(run):
    return sorted(str(p.relative_to(run.root)) for p in run.root.rglob("*") if p.is_file())


def assert_alike(together, alone, *, atol=1e-6, masks=True):
    """Check tensors, masks, measurements and the names of all files."""
    assert files(together) == files(alone)
    for each in alone.stages:
        pair = [run.stage_dir(each) for run in (together, alone)]
        weights, expected = (load_tensors(folder / "weights.safetensors") for folder in pair)
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, atol=atol, rtol=0, msg=name)
        if masks:
            first, second = (load_mask(folder / "mask.safetensors") for folder in pair)
            assert first.equal(second)
        for row, other in zip(*(read_metrics(f / "metrics.jsonl") for f in pair), strict=True):
            assert row.keys() == other.keys()
            numbers = [k for k in row if k not in ("seconds", "layer_density")]
            assert [row[k] for k in numbers] == pytest.approx([other[k] for k in numbers], abs=1e-4)


def assert_equal_to_single_runs(chosen, tmp_path, **tolerance):
    runs = train_together(chosen, tmp_path / "together", Session())
    for recipe, run in zip(chosen, runs, strict=True):
        assert_alike(run, train(recipe, tmp_path / "alone"), **tolerance)
        assert f"trained as one of {len(chosen)} replicas" in log(run)
    return runs


def test_tickets_of_several_seeds_equal_single_runs(tmp_path):
    level = stage(
        "level",
        levels=2,
        sparsifier={"name": "prune-rate"},
        start={"weights": "dense@1it", "mask": "previous", "score": "previous"},
    )
    runs = assert_equal_to_single_runs(recipes(stage(), level), tmp_path)
    masks = [load_mask(run.stage_dir("level-2") / "mask.safetensors") for run in runs]
    assert masks[0].density() < 0.7 and not masks[0].equal(masks[1])


@pytest.mark.parametrize("sparsifier", registry("sparsifier").names())
def test_every_sparsifier_trains_as_a_replica_as_it_does_alone_or_says_why_not(
    sparsifier, tmp_path
):
    model = "cnn-small" if sparsifier == "slimming" else None
    chosen = recipes(stage(sparsifier=sparsifier), model=model)
    if registry("sparsifier").build(sparsifier).watches_layers:
        runs = train_together(chosen, tmp_path, Session())
        assert all("by itself, not as a replica" in log(run) for run in runs)
        assert not any(run.is_done(run.stages[0]) for run in runs)
        return
    assert_equal_to_single_runs(chosen, tmp_path, atol=2e-6)


@pytest.mark.parametrize("objective", registry("objective").names())
def test_every_objective_trains_as_a_replica_as_it_does_alone_or_says_why_not(objective, tmp_path):
    spec = {"name": objective}
    if objective == "trades":  # its own start is where the gradient is all rounding
        spec["attack"] = {"name": "pgd", "loss": "kl", "steps": 3}
    chosen = recipes(stage(objective=spec, epochs=1))
    if getattr(registry("objective").build(spec), "is_joinable", False):
        assert_equal_to_single_runs(chosen, tmp_path, atol=1e-5)
        return
    runs = train_together(chosen, tmp_path, Session())
    assert all("works on one network only" in log(run) for run in runs)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "adam"},
        {"name": "adam", "weight_decay": 0.1, "decay": "cosine", "warmup": 0.3},
        {"name": "sgd", "lr": 0.05, "nesterov": True},
        {"name": "sgd", "lr": 0.05, "momentum": 0.0, "l1": 0.001},
    ],
    ids=str,
)
def test_each_replica_has_its_own_numbers_of_the_optimizer(optimizer, tmp_path):
    chosen = [
        tiny_recipe(stages=[stage(optimizer=optimizer | {"lr": rate})])
        for rate in (0.001, 0.01, 0.05)
    ]
    assert_equal_to_single_runs(chosen, tmp_path, atol=1e-5)


def test_batch_statistics_are_each_replicas_own(tmp_path):
    chosen = recipes(stage(objective="natural"), model="cnn-small", seeds=(0, 1))
    assert_equal_to_single_runs(chosen, tmp_path, atol=1e-5)


def test_averages_and_convolutions_under_attack_equal_single_runs(tmp_path):
    chosen = recipes(stage(average="ema", epochs=1), model="cnn-small", seeds=(0, 1))
    assert_equal_to_single_runs(chosen, tmp_path, atol=1e-5)


def test_replicas_may_differ_in_length_and_method(tmp_path):
    chosen = [
        tiny_recipe(stages=[stage(epochs=epochs, sparsifier=method)], batch_size=500)
        for epochs, method in ((1, "fixed"), (3, "rigl"), (2, "gradual"))
    ]
    assert_equal_to_single_runs(chosen, tmp_path)


@pytest.mark.parametrize("sparsifier", ["magnitude", "hydra"])
@pytest.mark.parametrize("batches", [4, 11])
def test_a_killed_training_goes_on_together_or_alone(sparsifier, batches, tmp_path):
    chosen = recipes(stage(sparsifier=sparsifier))
    whole = train_together(chosen, tmp_path / "whole", EAGER)
    cut = Session(checkpoint_seconds=0.0, observers=(StopAfter(batches),))
    with pytest.raises(Stop):  # in the middle of a round: the seeds are not equally far
        train_together(chosen, tmp_path / "cut", cut)
    shutil.copytree(tmp_path / "cut", tmp_path / "again")
    for run, other in zip(whole, train_together(chosen, tmp_path / "cut", EAGER), strict=True):
        assert_alike(other, run)
    for run, recipe in zip(whole, chosen, strict=True):
        assert_alike(train(recipe, tmp_path / "again", EAGER), run)


def test_a_resume_file_holds_one_replica_and_not_the_stack(tmp_path):
    sizes = {}
    for num in (1, 8):
        cut = Session(checkpoint_seconds=0.0, observers=(StopAfter(2 * num),))
        chosen = recipes(stage(optimizer="adam"), seeds=range(num))
        with pytest.raises(Stop):
            if num == 1:
                train(chosen[0], tmp_path / str(num), cut)
            else:
                train_together(chosen, tmp_path / str(num), cut)
        sizes[num] = max(p.stat().st_size for p in (tmp_path / str(num)).rglob("resume-*.pt"))
    assert sizes[8] < 1.2 * sizes[1]


def test_one_that_diverges_leaves_the_others_as_they_are(tmp_path):
    rates = (0.05, 1e30, 0.01)
    chosen = [tiny_recipe(stages=[stage(optimizer=SGD | {"lr": rate})]) for rate in rates]
    runs = train_together(chosen, tmp_path / "together", Session())
    assert "left the other replicas: the loss is not finite" in log(runs[1])
    for place in (0, 2):
        assert_alike(runs[place], train(chosen[place], tmp_path / "alone"))
    with pytest.raises(Diverged):
        train(chosen[1], tmp_path / "together")


def test_a_stage_that_two_recipes_share_is_trained_once(tmp_path):
    chosen = [
        tiny_recipe(stages=[stage(), stage("sparse", sparsifier=method)], seed=seed)
        for method in ("magnitude", "gradual")
        for seed in (0, 1)
    ]
    runs = train_together(chosen, tmp_path, Session())
    assert all(run.is_done(each) for run in runs for each in run.stages)
    assert ["dense: linked from" in log(run) for run in runs] == [False, False, True, True]
    assert all("sparse: trained as one of 4 replicas" in log(run) for run in runs)


def test_a_mistake_in_one_recipe_does_not_stop_the_others(tmp_path):
    broken = tiny_recipe(stages=[stage(sparsifier="slimming")])  # it needs batch normalisation
    runs = train_together([broken, *recipes(stage())], tmp_path, Session())
    assert "not trained as a replica" in log(runs[0])
    assert all(run.is_done(run.stages[0]) for run in runs[1:])
    with pytest.raises(UserError, match="slimming"):
        train(broken, tmp_path)


def test_random_numbers_are_those_of_each_generator():
    names = [(seed, "dense") for seed in SEEDS]
    draws = JointDraws([stream(*name) for name in names], 4)
    numbers = torch.cat([torch.rand((4, 1, 3), generator=stream(*name)) for name in names])
    assert torch.equal(draws.uniform(1, 3), numbers)


def test_a_measurement_of_all_is_that_of_each():
    chosen = recipes(stage())
    dataset = dataset_of(chosen[0])
    models = [model_of(recipe, dataset) for recipe in chosen]
    x, y = dataset.split("validation")
    attack = registry("attack").build({"name": "pgd", "eps": 0.1, "steps": 2})
    expected = [
        measure(model, x, y, attack, seed, "dense", "validation")
        for seed, model in zip(SEEDS, models, strict=True)
    ]
    streams = [(seed, "dense") for seed in SEEDS]
    found = measure_together(Stack(models), x, y, attack, streams, "validation")
    for own, alone in zip(found, expected, strict=True):
        assert own == pytest.approx(alone, abs=1e-5)
