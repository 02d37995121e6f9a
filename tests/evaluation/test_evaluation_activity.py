"""Activation sparsity: counts written out, and that what was asked for is what is measured."""

import pytest
import torch
from torch import Tensor, nn

from wiry.core.activity import activation_modules
from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.activity import activation_sparsity
from wiry.models.base import build_model


def images(n: int = 64) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=stream(0, "images"))


def model_with(activation: object, name: str = "mlp") -> nn.Module:
    widths = {"widths": [40, 20]} if name == "mlp" else {}
    spec = {"name": name, "activation": activation, **widths}
    return build_model(spec, input_shape=(1, 8, 8), num_classes=4, seed=0)


def test_zeros_are_counted_by_layer_and_over_all():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 2, bias=False), nn.ReLU())
    model[2].weight.data.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    x = torch.tensor([[[[1.0, 0.0], [2.0, 0.0]]], [[[0.0, 0.0], [0.0, 3.0]]]])
    found = activation_sparsity(model, x, batch_size=1)
    assert found == {
        "zeros": 8,
        "activations": 12,
        "sparsity": 8 / 12,
        "layers": [
            {"name": "1", "zeros": 5, "activations": 8, "sparsity": 5 / 8},
            {"name": "3", "zeros": 3, "activations": 4, "sparsity": 3 / 4},
        ],
    }


@pytest.mark.parametrize("name", ["mlp", "cnn-small"])
@pytest.mark.parametrize("density", [0.5, 0.25, 0.05])
def test_winners_meet_their_share_exactly_in_every_layer(name, density):
    model = model_with({"name": "k-wta", "density": density}, name)
    for row in activation_sparsity(model, images())["layers"]:
        units = row["activations"] // 64
        assert row["zeros"] == 64 * (units - max(1, round(density * units)))


@pytest.mark.parametrize("density", [0.5, 0.2, 0.05])
def test_a_tracked_threshold_meets_its_share_within_two_percent_of_the_units(density):
    model = model_with({"name": "shifted-relu", "density": density}).train()
    for seed in range(60):
        model(torch.rand(64, 1, 8, 8, generator=stream(seed, "batches")))
    for row in activation_sparsity(model, images(500))["layers"]:
        assert 1 - row["sparsity"] == pytest.approx(density, abs=0.02)


def test_the_model_is_left_as_found_and_batches_make_no_difference():
    model = model_with({"name": "shifted-relu", "density": 0.2}, "cnn-small").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = activation_sparsity(model, images())
    assert one == activation_sparsity(model, images(), batch_size=7)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_module_called_twice_counts_twice():
    active = nn.ReLU()
    model = nn.Sequential(active, nn.Flatten(), active)
    found = activation_sparsity(model, images(3))
    assert found["activations"] == 2 * 3 * 64 and len(found["layers"]) == 1


def test_a_model_whose_activations_cannot_be_seen_is_refused():
    with pytest.raises(UserError, match="no activation module"):
        activation_modules(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
