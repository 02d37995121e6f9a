"""What holds for every model there is, and the sizes of each."""

import pytest
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import prunable
from wiry.core.registry import registry
from wiry.models.base import build_model

SMALL = {"resnet18": {"width": 4}, "vgg16": {"width": 0.1}}  # else the defaults; for speed
SPECS = [{"name": name, **SMALL.get(name, {})} for name in registry("model").names()]
each_model = pytest.mark.parametrize("spec", SPECS, ids=[spec["name"] for spec in SPECS])


def build(spec, seed: int = 0, names=("init",), shape=(3, 32, 32), num_classes: int = 7):
    return build_model(spec, input_shape=shape, num_classes=num_classes, seed=seed, names=names)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in prunable(model).values()])


def test_the_five_families_are_registered():
    assert {"mlp", "lenet5", "cnn-small", "resnet18", "vgg16"} <= set(registry("model").names())


@each_model
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_images_become_logits(spec, mode):
    model = build(spec).train(mode)
    logits = model(torch.rand(3, 3, 32, 32))
    assert logits.shape == (3, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@each_model
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 48), (2, 40, 33)], ids=str)
def test_other_image_shapes_work_too(spec, shape):
    assert build(spec, shape=shape).eval()(torch.rand(2, *shape)).shape == (2, 7)


@each_model
def test_every_parameter_gets_a_gradient(spec):
    model = build(spec)
    model(torch.rand(3, 3, 32, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@each_model
def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode(spec):
    model, x = build(spec).eval(), torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@each_model
def test_the_same_seed_gives_the_same_weights_and_another_seed_or_name_others(spec):
    one = build(spec)
    torch.manual_seed(99)
    again = build(spec).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, again[name]), name
    assert not torch.equal(weights(one), weights(build(spec, seed=1)))
    assert not torch.equal(weights(one), weights(build(spec, names=("reinit", "b"))))


@each_model
def test_building_leaves_the_global_generator_alone(spec):
    before = torch.get_rng_state()
    build(spec)
    assert torch.equal(torch.get_rng_state(), before)


@each_model
def test_prunable_parameters_are_the_weights_of_convolutions_and_linear_layers(spec):
    model = build(spec)
    expected = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert set(prunable(model)) == expected
    assert len(expected) >= 3


@each_model
def test_normalisation_is_the_first_layer_and_can_be_switched_off(spec):
    assert next(name for name, _ in build(spec).named_children()) == "normalize"
    statistics = (torch.full((3,), 0.5), torch.full((3,), 0.25))
    shape = {"input_shape": (3, 32, 32), "num_classes": 7, "seed": 0, "statistics": statistics}
    x = torch.rand(2, 3, 32, 32)
    on = build_model(spec, **shape).eval()
    off = build_model({**spec, "normalize": False}, **shape).eval()
    torch.testing.assert_close(on(x), off((x - 0.5) / 0.25))
    assert not torch.allclose(on(x), off(x))


@pytest.mark.parametrize(
    ("spec", "shape", "num"),
    [
        ({"name": "mlp"}, (1, 28, 28), 266_610),
        ({"name": "mlp", "bias": False, "normalize": False}, (1, 28, 28), 266_200),
        ({"name": "mlp", "widths": []}, (1, 8, 8), 650),
        ({"name": "lenet5"}, (1, 28, 28), 431_080),
        ({"name": "cnn-small"}, (1, 8, 8), 14_458),
        ({"name": "cnn-small"}, (3, 32, 32), 14_746),
        ({"name": "resnet18"}, (3, 32, 32), 11_173_962),
        ({"name": "vgg16"}, (3, 32, 32), 14_724_042),
    ],
    ids=str,
)
def test_the_number_of_parameters_is_the_pinned_one(spec, shape, num):
    with torch.device("meta"):  # counts need no memory
        model = registry("model").build(spec, input_shape=shape, num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == num


def test_lenet_300_100_of_the_lottery_ticket_papers_has_three_prunable_layers():
    model = build({"name": "mlp", "bias": False}, shape=(1, 28, 28), num_classes=10)
    assert [p.numel() for p in model.parameters()] == [235_200, 30_000, 1_000]
    assert len(prunable(model)) == len(list(model.parameters())) == 3


@pytest.mark.parametrize("name", ["mlp", "cnn-small", "resnet18"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=str)
def test_models_for_the_small_data_sets_work_on_all_of_them(name, shape):
    spec = {"name": name, **SMALL.get(name, {})}
    assert build(spec, shape=shape)(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "smallest"), [("lenet5", 16), ("cnn-small", 4), ("resnet18", 8), ("vgg16", 32)]
)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name, smallest):
    spec = {"name": name, **SMALL.get(name, {})}
    shape = (1, smallest, smallest)
    assert build(spec, shape=shape).eval()(torch.rand(2, *shape)).shape == (2, 7)
    with pytest.raises(UserError, match=rf"model '{name}': images of .* too small: .* at least"):
        build(spec, shape=(1, smallest, smallest - 1))


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "mlp", "widths": [30, 0]},
        {"name": "cnn-small", "width": 0},
        {"name": "resnet18", "width": -1},
        {"name": "vgg16", "width": 0.0},
    ],
    ids=str,
)
def test_a_width_below_one_is_refused(spec):
    with pytest.raises(UserError, match=rf"model '{spec['name']}': width"):
        build(spec)


def test_a_block_of_a_residual_network_adds_its_input():
    block = build({"name": "resnet18", "width": 4}, shape=(1, 8, 8)).eval().blocks[0]
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x.relu())


def test_the_logits_of_a_seed_are_the_pinned_ones():
    x = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    found = build("cnn-small", shape=(1, 8, 8), num_classes=3).eval()(x)
    expected = torch.tensor([[0.237699, 0.297344, -0.614591]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
