"""Activations: what each does to numbers, in every model, and that their share is met."""

import pytest
import torch
import torch.fx
from torch import Tensor, nn

from wiry.attacks.pgd import PGD
from wiry.core.activity import activation_modules
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.models.activations import TrackedThreshold, keep_winners
from wiry.models.base import build_model

SMALL = {"resnet18": {"width": 4}, "vgg16": {"width": 0.1}}
NAMES = registry("model").names()
PLACES = {"mlp": 2, "lenet5": 3, "cnn-small": 3, "resnet18": 17, "vgg16": 13}


def build(name: str, activation: object) -> nn.Module:
    spec = {"name": name, "activation": activation, **SMALL.get(name, {})}
    return build_model(spec, input_shape=(3, 32, 32), num_classes=7, seed=0)


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 32, 32, generator=stream(0, "images"))


def normals(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(1, "normals"))


def test_winners_are_the_largest_of_each_image_whatever_their_sign():
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5], [-1.0, -2.0, -3.0, -4.0]])
    expected = [[1.0, 0.0, 3.0, 0.0], [-1.0, -2.0, 0.0, 0.0]]
    assert keep_winners(x, 0.5).tolist() == expected


def test_winners_of_a_convolution_are_those_of_all_its_maps():
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0] = torch.tensor([[9.0, 8.0], [7.0, 6.0]])
    x[0, 1] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    kept = keep_winners(x, 0.5)
    assert torch.equal(kept[0, 0], x[0, 0]) and not kept[0, 1].any()


def test_the_number_of_winners_is_exact_also_with_ties_and_at_least_one():
    assert (keep_winners(torch.ones(4, 10), 0.3) != 0).sum(1).tolist() == [3] * 4
    assert (keep_winners(normals(4, 10), 0.001) != 0).sum(1).tolist() == [1] * 4
    assert torch.equal(keep_winners(normals(4, 10), 1.0), normals(4, 10))


def test_gradients_reach_the_winners_only():
    x = torch.tensor([[1.0, 4.0, 3.0]], requires_grad=True)
    (keep_winners(x, 1 / 3) * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0, 2.0, 0.0]]


def test_a_given_threshold_is_subtracted_before_rectifying():
    module = registry("activation").build({"name": "shifted-relu", "threshold": 1.5})()
    assert module(torch.tensor([[-1.0, 1.0, 1.5, 4.0]])).tolist() == [[0.0, 0.0, 0.0, 2.5]]
    assert not list(module.buffers())


@pytest.mark.parametrize("density", [0.75, 0.25, 0.05])
def test_a_tracked_threshold_converges_to_the_quantile_of_what_it_sees(density):
    module, generator = TrackedThreshold(density), stream(2, "batches")
    for _ in range(100):
        module(torch.randn(50, 40, generator=generator) * 3 + 1)
    wanted = 1 + 3 * torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - density))
    torch.testing.assert_close(module.threshold, wanted, rtol=0, atol=0.1)
    module.eval()
    active = (module(torch.randn(500, 40, generator=generator) * 3 + 1) > 0).float().mean()
    assert active == pytest.approx(density, abs=0.02)


def test_a_tracked_threshold_moves_in_training_mode_only_and_not_while_tracking_is_off():
    module = TrackedThreshold(0.25)
    module.eval()(normals(20, 20))
    assert module.threshold == 0
    module.train().track_running_stats = False
    module(normals(20, 20))
    assert module.threshold == 0
    module.track_running_stats = True
    module(normals(20, 20))
    assert 0.04 < module.threshold < 0.1


def test_a_share_of_one_leaves_all_units_active_but_the_smallest():
    module = TrackedThreshold(1.0)
    for _ in range(200):
        module(normals(20, 20))
    assert (module.eval()(normals(20, 20)) > 0).sum() >= 20 * 20 - 1


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_a_plain_relu_and_adds_nothing_to_what_is_saved(name):
    model = build(name, "relu")
    found = activation_modules(model).values()
    assert len(found) == PLACES.get(name, len(found)) and {type(m) for m in found} == {nn.ReLU}
    assert registry("model").normalize({"name": name, "activation": "relu"}) == {"name": name}
    assert list(build(name, "k-wta").state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", registry("activation").names())
def test_every_model_takes_every_activation_in_all_its_places_and_can_be_traced(name, activation):
    model = build(name, activation)
    made = type(registry("activation").build(activation)())
    assert {type(module) for module in activation_modules(model).values()} == {made}
    model(images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    assert torch.equal(torch.fx.symbolic_trace(model)(images()), model(images()))


def test_models_with_other_activations_have_the_same_initial_weights():
    one, other = build("cnn-small", "relu"), build("cnn-small", {"name": "k-wta", "density": 0.3})
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one(images()), other(images()))


@pytest.mark.parametrize("name", ["k-wta", "shifted-relu"])
@pytest.mark.parametrize("density", [0, 1.5, -0.1])
def test_a_density_outside_its_range_is_refused(name, density):
    with pytest.raises(UserError, match=rf"activation '{name}': density is a share in \(0, 1\]"):
        registry("model").normalize(
            {"name": "mlp", "activation": {"name": name, "density": density}}
        )


def test_an_attack_in_train_mode_leaves_tracked_thresholds_alone():
    spec = {"name": "mlp", "widths": [8], "activation": {"name": "shifted-relu", "density": 0.2}}
    model = build_model(spec, input_shape=(1, 4, 4), num_classes=3, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.rand(8, 1, 4, 4, generator=stream(0)), torch.zeros(8, dtype=torch.int64)
    PGD(0.1, steps=3, mode="train")(model, x, y, stream(1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(x)
    assert any(not torch.equal(value, before[n]) for n, value in model.state_dict().items())
