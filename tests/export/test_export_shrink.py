"""Shrunk models: smaller in the places written out, and the same outputs as the masked ones."""

import copy

import pytest
import torch
from torch import nn

from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.export.shrink import shrink, size_report
from wiry.models.base import build_model

SPECS = {
    "mlp": {"name": "mlp", "widths": [16, 9]},
    "mlp without biases": {"name": "mlp", "widths": [16, 9], "bias": False},
    "cnn-small": {"name": "cnn-small", "width": 4},
    "resnet18": {"name": "resnet18", "width": 4},
    "lenet5": {"name": "lenet5"},
    "vgg16": {"name": "vgg16", "width": 0.1},
}
SHAPES = {"lenet5": (1, 28, 28), "vgg16": (3, 32, 32)}


def trained(name) -> nn.Module:
    """Return a model whose norms and biases are as after a training: nothing special in them."""
    shape = SHAPES.get(name, (1, 8, 8))
    statistics = (torch.full(shape[:1], 0.3), torch.full(shape[:1], 0.4))
    model = build_model(
        SPECS[name], input_shape=shape, num_classes=10, seed=0, statistics=statistics
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.dim() == 1 and not key.startswith("normalize"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


def check_equal(model, mask, small, shape):
    """Check that outputs agree to 1e-5 of the largest."""
    masked = copy.deepcopy(model)
    mask.apply_(masked)
    x = torch.rand(16, *shape, generator=torch.Generator().manual_seed(2))
    expected, found = masked(x), copy.deepcopy(small).eval()(x)
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, largest))


def pruned(model, sparsifier, sparsity=0.77) -> Mask:
    state = SparseState(generator=torch.Generator().manual_seed(3))
    registry("sparsifier").build({"name": sparsifier, "sparsity": sparsity}).setup(model, state)
    return state.mask


@pytest.mark.parametrize("sparsifier", ["filter", "slimming"])
@pytest.mark.parametrize("name", SPECS)
def test_a_model_without_its_channels_is_small_and_answers_the_same(name, sparsifier):
    if sparsifier == "slimming" and (name.startswith("mlp") or name == "lenet5"):
        pytest.skip("no batch normalisation")
    model, shape = trained(name), SHAPES.get(name, (1, 8, 8))
    mask = pruned(model, sparsifier)
    small = shrink(model, mask, shape)
    assert type(small) is type(model)
    check_equal(model, mask, small, shape)
    weights = prunable(small)
    kept = sum(int(mask[weight].sum()) for weight in weights)
    assert sum(p.numel() for p in weights.values()) == kept  # nothing masked is left
    report = size_report(model, small)
    assert report["parameters_after"] < 0.25 * report["parameters_before"]
    for group in channel_groups(model):
        before, after = report["channels"][group.name]
        biases = [name for name in group.outputs if name in mask and mask[name].dim() == 1]
        assert before == group.size
        assert all(after == int(mask[name].sum()) for name in biases)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("sparsifier", ["magnitude", "rigl"])
def test_single_weights_leave_dead_channels_that_are_taken_out(sparsifier, name):
    model, shape = trained(name), SHAPES.get(name, (1, 8, 8))
    mask = pruned(model, sparsifier, sparsity=0.97)
    small = shrink(model, mask, shape)
    check_equal(model, mask, small, shape)
    report = size_report(model, small)
    assert report["parameters_after"] <= report["parameters_before"]
    if name in ("mlp", "cnn-small"):
        assert report["parameters_after"] < report["parameters_before"]


def test_a_unit_nothing_reads_takes_the_units_only_it_reads_with_it():
    model = trained("mlp")
    second = torch.ones(9, 16).bool()
    second[1:, 5] = False  # unit 5 is read by unit 0 of the next layer only,
    head = torch.ones(10, 9).bool()
    head[:, 0] = False  # and that one by nothing
    mask = Mask({"hidden.2.weight": second, "head.weight": head})
    small = shrink(model, mask, (1, 8, 8))
    assert size_report(model, small)["channels"] == {"hidden.0": [16, 15], "hidden.2": [9, 8]}
    assert torch.equal(small.hidden[0].weight[5], model.hidden[0].weight[6])
    assert (small.hidden[0].out_features, small.hidden[2].in_features) == (15, 15)
    check_equal(model, mask, small, (1, 8, 8))


def test_a_unit_without_inputs_stays_if_its_bias_makes_it_a_constant():
    model = trained("mlp")
    first = torch.ones(16, 64).bool()
    first[[2, 3]] = False
    with torch.no_grad():
        model.hidden[0].bias[3] = 0
    small = shrink(model, Mask({"hidden.0.weight": first}), (1, 8, 8))
    assert small.hidden[0].out_features == 15
    assert not bool(small.hidden[0].weight[2].any()) and bool(small.hidden[0].bias[2])


def test_a_filter_without_inputs_goes_if_its_norm_makes_zero_of_zero():
    model = trained("cnn-small")
    first = torch.ones(4, 1, 3, 3).bool()
    first[[0, 1]] = False
    norm = model.features[1]
    with torch.no_grad():
        norm.running_mean[0], norm.bias[0] = 0.0, 0.0
    small = shrink(model, Mask({"features.0.weight": first}), (1, 8, 8))
    assert small.features[0].out_channels == small.features[1].num_features == 3
    check_equal(model, Mask({"features.0.weight": first}), small, (1, 8, 8))


def test_one_channel_stays_where_all_are_dead():
    model = trained("mlp")
    mask = Mask({"head.weight": torch.zeros(10, 9).bool()})
    small = shrink(model, mask, (1, 8, 8))
    assert size_report(model, small)["channels"] == {"hidden.0": [16, 1], "hidden.2": [9, 1]}
    assert torch.equal(small(torch.rand(2, 1, 8, 8)), model.head.bias.expand(2, 10))


def test_a_small_model_trains_saves_and_shrinks_again():
    model = trained("resnet18").train()
    mask = pruned(model, "filter", 0.5)
    small = shrink(model, mask, (1, 8, 8))
    assert small.training and model.training
    small(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    again = shrink(small, pruned(small, "filter", 0.5), (1, 8, 8))
    assert size_report(model, again)["parameters_after"] < 0.3 * sum(
        parameter.numel() for parameter in model.parameters()
    )
    other = copy.deepcopy(small)
    other.load_state_dict(small.state_dict())


def test_the_model_itself_is_not_changed():
    model = trained("cnn-small")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shrink(model, pruned(model, "filter"), (1, 8, 8))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert model.features[0].out_channels == 4


def test_what_cannot_be_shrunk_is_refused():
    with pytest.raises(UserError, match="Linear has no channel_groups"):
        shrink(nn.Linear(2, 2), Mask(), (1, 1, 2))
    spec = {"name": "mlp", "widths": []}
    linear = build_model(spec, input_shape=(1, 8, 8), num_classes=2, seed=0)
    with pytest.raises(UserError, match="no hidden channels"):
        shrink(linear, Mask(), (1, 8, 8))
    with pytest.raises(UserError, match="no parameter in the model"):
        shrink(trained("mlp"), Mask({"other": torch.ones(2)}), (1, 8, 8))


def test_an_activation_that_counts_channels_is_refused():
    spec = {"name": "mlp", "widths": [32], "activation": {"name": "k-wta", "density": 0.25}}
    model = build_model(spec, input_shape=(1, 8, 8), num_classes=10, seed=0)
    with pytest.raises(UserError, match="depends on the number of channels"):
        shrink(model, pruned(model, "filter"), (1, 8, 8))
