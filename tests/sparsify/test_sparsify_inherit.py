"""Inverse weights inheritance: exact embedding, new weights, slower inherited ones."""

import copy
import itertools

import pytest
import torch
from tests.train.tiny import artifacts, tiny_recipe
from torch import nn, tensor

from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask, density
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.models.base import build_model
from wiry.sparsify.inherit import Inherit, equal_epochs
from wiry.train.stages import Session, load_stage, train

SPECS = {
    "mlp": {"name": "mlp", "widths": [16, 9]},
    "mlp without biases": {"name": "mlp", "widths": [16, 9], "bias": False},
    "cnn-small": {"name": "cnn-small", "width": 4},
    "resnet18": {"name": "resnet18", "width": 4},
}
X = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def small_network(name, sparsifier) -> tuple[nn.Module, Mask]:
    """Return a masked network whose norms and biases are as after a training."""
    model = build_model(SPECS[name], input_shape=(1, 8, 8), num_classes=10, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.dim() == 1 and not key.startswith("normalize"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    state = SparseState(generator=generator)
    registry("sparsifier").build({"name": sparsifier, "sparsity": 0.6}).setup(model, state)
    state.mask.apply_(model)
    return model.eval(), state.mask


def embedded(method, small, mask, *, total_steps=10) -> tuple[nn.Module, SparseState]:
    """Return the large network and its state as a stage begins with them."""
    model = copy.deepcopy(small)
    state = SparseState(
        mask=mask, total_steps=total_steps, generator=torch.Generator().manual_seed(4)
    )
    method.setup(model, state)
    return model, state


each_small = pytest.mark.parametrize("sparsifier", ["filter", "magnitude"])
each_model = pytest.mark.parametrize("name", SPECS)


@each_small
@each_model
def test_without_new_weights_the_large_network_is_the_small_one(name, sparsifier):
    small, mask = small_network(name, sparsifier)
    large, state = embedded(Inherit(scale=0.0), small, mask)
    assert torch.equal(large(X), small(X))
    assert state.mask == Mask() and density(large, state.mask) == 1.0


@each_small
@each_model
def test_with_outgoing_zero_it_is_too_and_new_channels_learn(name, sparsifier):
    small, mask = small_network(name, sparsifier)
    large, _ = embedded(Inherit(scale=1.0, outgoing_zero=True), small, mask)
    torch.testing.assert_close(large(X), small(X), rtol=1e-6, atol=1e-6)
    if sparsifier == "magnitude":
        return
    large(X).square().sum().backward()
    group = channel_groups(large)[-1]  # what the head reads
    weight, (reader, _) = group.outputs[0], group.inputs[0]
    new = (~mask[weight]).flatten(1).all(1)
    assert bool(new.any()) and bool(large.get_parameter(weight)[new].any())
    gradient = large.get_parameter(reader).grad
    assert gradient is not None and bool(gradient[:, new].any())


@each_model
def test_inherited_entries_stay_and_new_ones_are_drawn_at_the_scale(name):
    small, mask = small_network(name, "filter")
    large, state = embedded(Inherit(scale=0.5), small, mask)
    old = dict(small.named_parameters())
    for key, parameter in large.named_parameters():
        inherited = state.tensors[f"inherited/{key}"]
        assert torch.equal(inherited, mask.get(key, torch.ones_like(inherited)))
        assert torch.equal(parameter[inherited], old[key][inherited])
        fresh = parameter[~inherited].detach()
        if parameter.dim() >= 2 and fresh.numel() > 200:
            expected = 0.5 * (2 / parameter[0].numel()) ** 0.5
            assert float(fresh.std()) == pytest.approx(expected, rel=0.2)
        elif parameter.dim() == 1 and fresh.numel():
            is_scale = key.replace("weight", "running_var") in large.state_dict()
            is_scale = is_scale and key.endswith("weight")
            assert fresh.unique().tolist() == [float(is_scale)]


def test_statistics_of_new_channels_are_fresh_and_of_inherited_ones_kept():
    small, mask = small_network("cnn-small", "filter")
    large, _ = embedded(Inherit(), small, mask)
    old, new, kept = small.features[1], large.features[1], mask["features.1.weight"]
    assert bool(kept.any()) and not bool(kept.all())
    assert torch.equal(new.running_mean[kept], old.running_mean[kept])
    assert torch.equal(new.running_var[kept], old.running_var[kept])
    assert new.running_mean[~kept].unique().tolist() == [0.0]
    assert new.running_var[~kept].unique().tolist() == [1.0]


def test_layers_that_do_not_inherit_are_new():
    small, mask = small_network("cnn-small", "filter")
    large, state = embedded(Inherit(scale=1.0, layers=["features.*"]), small, mask)
    assert not bool(state.tensors["inherited/head.weight"].any())
    assert not bool((large.head.weight == small.head.weight).any())
    assert not bool(large.head.bias.any())
    assert torch.equal(state.tensors["inherited/features.0.weight"], mask["features.0.weight"])
    with pytest.raises(UserError, match=r"layers has 'body\.\*', the model has features\.0, "):
        embedded(Inherit(layers=["body.*"]), small, mask)


def test_with_no_mask_everything_is_inherited():
    small, _ = small_network("mlp", "filter")
    large, state = embedded(Inherit(scale=1.0), small, Mask())
    assert all(
        torch.equal(a, b) for a, b in zip(large.parameters(), small.parameters(), strict=True)
    )
    assert all(bool(value.all()) for value in state.tensors.values())


def run(method, optimizer_class, num_steps=4):
    """Return inherited, and weights before each step and at the end, of a one-layer network."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 8).view(2, 4))
        model.bias.fill_(0.5)
    mask = Mask({"weight": tensor([[1, 0, 1, 0], [0, 1, 1, 1]])})
    state = SparseState(
        mask=mask, total_steps=num_steps, generator=torch.Generator().manual_seed(0)
    )
    mask.apply_(model)
    method.setup(model, state)
    optimizer, history = optimizer_class(model.parameters(), lr=0.1), []
    for step in range(num_steps):
        history.append(model.weight.detach().clone())
        x = torch.rand(3, 4, generator=torch.Generator().manual_seed(step)) + 0.1
        optimizer.zero_grad()
        model(x).sum().backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
        assert not state.transient
    return mask["weight"], [*history, model.weight.detach().clone()], optimizer


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_inherited_weights_stand_still_while_frozen_and_gather_no_momentum(optimizer):
    inherited, weights, _ = run(Inherit(frozen=0.5), optimizer)
    for before, after in itertools.pairwise(weights[:3]):
        assert torch.equal(before[inherited], after[inherited])
        assert not bool((before == after)[~inherited].any())
    assert not bool((weights[2] == weights[3])[inherited].any())
    _, _, adam = run(Inherit(frozen=1.0), torch.optim.Adam)
    assert not bool(next(iter(adam.state.values()))["exp_avg"][inherited].any())


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_the_first_step_of_inherited_weights_is_the_ratio_of_a_full_step(optimizer):
    inherited, full, _ = run(Inherit(), optimizer, num_steps=1)
    _, slower, _ = run(Inherit(inherited_rate=0.25), optimizer, num_steps=1)
    assert torch.equal(full[0], slower[0])
    step, short = full[1] - full[0], slower[1] - slower[0]
    torch.testing.assert_close(short[inherited], 0.25 * step[inherited], rtol=1e-4, atol=1e-6)
    assert torch.equal(short[~inherited], step[~inherited])


class Cut:
    """An observer that stops a training after a number of batches of its second stage."""

    def __call__(self, training):
        if training.name == "large" and training.progress.num_batches == 2:
            raise InterruptedError("stopped by the test")


def test_a_stage_inherits_from_an_earlier_one_ends_dense_and_resumes(tmp_path):
    fields = {"name": "inherit", "frozen": 0.2, "inherited_rate": 0.5}
    start = {"weights": "small", "mask": "small"}
    recipe = tiny_recipe(
        stages=[
            {"name": "small", "epochs": 1, "sparsifier": {"name": "filter", "sparsity": 0.6}},
            {"name": "large", "epochs": 2, "sparsifier": fields, "start": start},
        ]
    )
    whole = train(recipe, tmp_path / "whole")
    model, mask = load_stage(whole, "large")
    assert density(model, mask) == 1.0 and bool(model.hidden[0].weight.all())
    eager = {"checkpoint_seconds": 0.0}
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "cut", Session(observers=(Cut(),), **eager))
    assert artifacts(train(recipe, tmp_path / "cut", Session(**eager))) == artifacts(whole)


def test_equal_epochs_counts_the_flops_of_both_networks():
    assert equal_epochs(0.1, 100, 20) == 30.0
    assert equal_epochs(0.1, 100, 20, dense_epochs=50) == 80.0
    assert equal_epochs(1.0, 0, 7) == 7.0
    for wrong in ((1.5, 1, 1), (-0.1, 1, 1), (0.5, -1, 1), (0.5, 1, -1)):
        with pytest.raises(ValueError, match=r"must be 0 or more|is a share"):
            equal_epochs(*wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": -1.0},
        {"frozen": 1.5},
        {"inherited_rate": -0.5},
        {"layers": []},
        {"outgoing_zero": True, "scale": 0.0},
        {"outgoing_zero": True, "layers": ["head"]},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(UserError, match="sparsifier 'inherit'"):
        registry("sparsifier").build({"name": "inherit", **fields})
