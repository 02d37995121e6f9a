"""Normalisation, initialisation and building from a spec."""

import math

import pytest
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.models.base import Normalize, build_model, initialize_, require_size

GREY = {"input_shape": (1, 8, 8), "num_classes": 10}


def test_normalize_does_nothing_until_it_is_set():
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(Normalize(3)(x), x)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    normalize = Normalize(2)
    normalize.set_(torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.125]))
    x = torch.tensor([[1.0, 0.0], [0.5, 0.25]]).view(1, 2, 1, 2)
    assert normalize(x).flatten().tolist() == [1.0, -1.0, 2.0, 0.0]


def test_normalize_is_saved_with_the_model_and_has_nothing_to_train():
    normalize = Normalize(2)
    assert set(normalize.state_dict()) == {"mean", "std"}
    assert list(normalize.parameters()) == []


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        ([0.5], [1.0, 1.0], "2 image channels"),
        ([0.5, 0.5], [1.0], "2 image channels"),
        ([0.5, 0.5], [1.0, 0.0], "std must be positive"),
    ],
)
def test_normalize_refuses_statistics_that_do_not_fit(mean, std, text):
    with pytest.raises(ValueError, match=text):
        Normalize(2).set_(torch.tensor(mean), torch.tensor(std))


def test_build_model_puts_the_statistics_into_a_model_that_normalises():
    statistics = (torch.tensor([0.3]), torch.tensor([0.4]))
    model = build_model("mlp", **GREY, seed=0, statistics=statistics)
    torch.testing.assert_close(model.normalize.mean, statistics[0])
    torch.testing.assert_close(model.normalize.std, statistics[1])


def test_build_model_leaves_a_model_that_does_not_normalise_alone():
    statistics = (torch.tensor([0.3]), torch.tensor([0.4]))
    spec = {"name": "mlp", "normalize": False}
    model = build_model(spec, **GREY, seed=0, statistics=statistics)
    assert (model.normalize.mean.item(), model.normalize.std.item()) == (0.0, 1.0)


def test_statistics_change_the_output_as_if_the_images_had_been_normalised():
    plain = build_model("cnn-small", **GREY, seed=0).eval()
    statistics = (torch.tensor([0.3]), torch.tensor([0.4]))
    normalising = build_model("cnn-small", **GREY, seed=0, statistics=statistics).eval()
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(normalising(x), plain((x - 0.3) / 0.4))


@pytest.mark.parametrize(
    ("init", "variance", "bound"),
    [
        ("kaiming", 2 / 400, math.inf),
        ("glorot-uniform", 2 / 1000, math.sqrt(6 / 1000)),
        ("glorot-normal", 2 / 1000, math.inf),
    ],
)
def test_weights_have_the_variance_of_the_paper_and_biases_are_zero(init, variance, bound):
    layer = nn.Linear(400, 600)
    torch.nn.init.ones_(layer.bias)
    initialize_(layer, init)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.02)  # 240,000 draws
    assert abs(layer.weight.mean().item()) < 1e-3
    largest = layer.weight.abs().max().item()
    assert largest <= bound
    if bound == math.inf:  # a normal draw reaches beyond three deviations, a uniform one does not
        assert largest > 3 * math.sqrt(variance)
    assert not layer.bias.any()


def test_convolutions_count_the_window_in_the_fan_in():
    layer = nn.Conv2d(50, 400, 3)
    initialize_(layer)
    assert layer.weight.var().item() == pytest.approx(2 / 450, rel=0.02)


def test_a_too_small_image_is_refused_with_what_is_needed():
    require_size((1, 8, 8), 8, why="of a reason")
    with pytest.raises(ValueError, match=r"images of 8x7 are too small: of a reason, .* 8x8 is"):
        require_size((1, 8, 7), 8, why="of a reason")


def test_an_unknown_model_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"closest: 'resnet18'"):
        build_model("resnet", **GREY, seed=0)
