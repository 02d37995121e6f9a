"""Training on bounds: loss, statistics and certified share, alone, wrapped and in the loop."""

import math

import pytest
import torch
from tests.objectives.test_objectives_certified import images, network
from torch import Tensor

from wiry.attacks.fgsm import FGSM
from wiry.bounds.certify import certified
from wiry.core.batch import Batch
from wiry.core.recipe_file import parse_recipe
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.run import read_metrics
from wiry.data.digits import digits
from wiry.models.base import build_model
from wiry.objectives.awp import Awp
from wiry.objectives.crown_ibp import CrownIbp
from wiry.objectives.interval import Ibp
from wiry.objectives.mixtrain import Mixtrain
from wiry.train.stages import train

OBJECTIVES = [
    Ibp(0.05),
    CrownIbp(0.05, crown_weight=0.5, natural_start=1.0, natural_end=0.5),
    Mixtrain(0.05, num_images=8, probability=1.0),
    Mixtrain(0.05, bound="ibp", probability=1.0, attack=FGSM(0.05)),
]
over_objectives = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)


@over_objectives
@pytest.mark.parametrize("progress", [0.1, 1.0])
def test_training_at_the_full_radius_lowers_the_loss(objective, progress):
    """Here `progress` stands still, so the loss is one function."""
    model, batch = network(), images(progress)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for seed in range(15):
        optimizer.zero_grad()
        loss = objective(model, model, batch, stream(seed, "attack"))
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        assert not any(v.requires_grad or v.shape for v in loss.metrics.values())
    assert losses[-1] < 0.7 * losses[0]


@over_objectives
def test_running_statistics_move_as_in_one_plain_forward_on_the_images_of_the_loss(objective):
    model, plain, calls = network(), network(), []

    def forward(x: Tensor) -> Tensor:
        calls.append(x)
        return model(x)

    objective(forward, model, images(), stream(0, "attack"))
    plain(calls[0])
    assert len(calls) == 1
    torch.testing.assert_close(model[1].running_mean, plain[1].running_mean)
    torch.testing.assert_close(model[1].running_var, plain[1].running_var)
    assert int(model[1].num_batches_tracked) == 1
    assert not any(module._forward_pre_hooks for module in model.modules())


@over_objectives
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_in_the_model_in_the_middle_of_the_ramp(objective, training):
    model = network().train(training)
    model[0].weight.requires_grad_(False)
    state, attributes = torch.get_rng_state(), set(vars(model))
    objective(model, model, images(0.1), stream(0, "attack"))
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model.modules()] == [training] * 6
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    assert all(p.grad is None for p in model.parameters()) and set(vars(model)) == attributes


def test_certified_accuracy_is_the_share_that_certified_finds():
    """Without batch normalisation training and eval mode are the same function."""
    model, batch = network(norm=False), images()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    shares = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = Ibp(0.03)(model, model, batch, stream(0, "attack"))
        share = certified(model, batch.x, batch.y, 0.03).float().mean()
        assert loss.metrics["certified_accuracy"].item() == pytest.approx(share.item())
        shares.append(share.item())
        loss.total.backward()
        optimizer.step()
    assert any(0 < share < 1 for share in shares)


@pytest.mark.parametrize("objective", [Ibp(0.05), CrownIbp(0.05)], ids=lambda o: type(o).__name__)
def test_weight_perturbation_reaches_the_bounds(objective):
    """The wrapper puts other weights in place; bounds of the old ones would miss them."""
    model, batch = network(), images(0.5)
    plain = objective(model, model, batch, stream(0, "attack")).total
    moved = Awp(objective, gamma=0.05, warmup=0.0)(model, model, batch, stream(0, "attack")).total
    assert moved > plain * 1.01
    moved.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_training_on_bounds_certifies_what_plain_training_does_not():
    data = digits(num_train=300)
    x, y = data.test_x[:200], data.test_y[:200]
    shares = {}
    for objective in ("natural", Ibp(0.05), CrownIbp(0.05)):
        objective = registry("objective").build(objective)
        model = build_model(
            {"name": "mlp", "widths": [32]}, input_shape=(1, 8, 8), num_classes=10, seed=0
        )
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for step in range(80):
            optimizer.zero_grad()
            batch = Batch(data.train_x, data.train_y, torch.arange(300), step / 80)
            objective(model, model, batch, stream(step, "attack")).total.backward()
            optimizer.step()
        shares[objective.registered_name] = certified(model, x, y, 0.05).float().mean().item()
    assert shares["natural"] + 0.2 < min(shares["ibp"], shares["crown-ibp"])


MODELS = [
    {"name": "mlp", "widths": [16]},
    {"name": "cnn-small", "width": 4},
    {"name": "resnet18", "width": 4},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m["name"])
@pytest.mark.parametrize("objective", ["ibp", "crown-ibp", "mixtrain"])
def test_the_loop_trains_every_model_of_the_matrix_on_bounds(objective, model, tmp_path):
    recipe = {
        "name": "certified",
        "data": {"name": "digits", "num_train": 60},
        "model": model,
        "stages": [
            {
                "name": "dense",
                "epochs": 2,
                "batch_size": 20,
                "objective": {"name": objective, "eps": 0.1},
                "sparsifier": {"name": "magnitude", "sparsity": 0.5},
                "optimizer": "adam",
            }
        ],
        "monitor": {"num_samples": 20},
    }
    run = train(parse_recipe(recipe), tmp_path)
    rows = read_metrics(run.stage_dir("dense") / "metrics.jsonl")
    assert len(rows) == 2 and all(math.isfinite(row["train_loss"]) for row in rows)
    if objective != "mixtrain":
        assert all(0 <= row["train_certified_accuracy"] <= 1 for row in rows)
