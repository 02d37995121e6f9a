"""Channel groups of every model: what they name is all there is of a channel."""

import copy

import pytest
import torch
from torch import nn

from wiry.core.channels import ChannelGroup, channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import prunable
from wiry.core.registry import registry
from wiry.models.base import build_model

SMALL = {"resnet18": {"width": 4}, "vgg16": {"width": 0.1}, "mlp": {"widths": [6, 5]}}
SPECS = [{"name": name, **SMALL.get(name, {})} for name in registry("model").names()]
each_model = pytest.mark.parametrize("spec", SPECS, ids=[spec["name"] for spec in SPECS])
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def scrambled(spec) -> nn.Module:
    """Return a model in eval mode in which no tensor is special: norms and biases are random."""
    model = build_model(spec, input_shape=(3, 32, 32), num_classes=7, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() == 1 and not name.startswith("normalize"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def columns(weight: torch.Tensor, channel: int, repeat: int) -> torch.Tensor:
    return weight[:, channel * repeat : (channel + 1) * repeat]


def without(model: nn.Module, group: ChannelGroup, channel: int) -> nn.Module:
    """Return a copy in which all outputs of a channel are zero."""
    changed = copy.deepcopy(model)
    for name in group.outputs:
        tensors(changed)[name][channel] = 0
    return changed


@each_model
def test_a_channel_that_is_zero_in_all_its_outputs_is_not_read(spec):
    model = scrambled(spec)
    before = model(X)
    for group in channel_groups(model):
        channel, changed = next(
            (channel, changed)
            for channel in range(group.size)  # the first that some image activates
            if not torch.equal((changed := without(model, group, channel))(X), before)
        )
        removed, values = changed(X), tensors(changed)
        for name, repeat in group.inputs:
            columns(values[name], channel, repeat).fill_(7.0)
        assert torch.equal(changed(X), removed), group.name


@each_model
def test_a_channel_that_nothing_reads_may_be_anything(spec):
    model = scrambled(spec)
    for group in channel_groups(model):
        changed = copy.deepcopy(model)
        values = tensors(changed)
        for name, repeat in group.inputs:
            columns(values[name], 0, repeat).zero_()
        unread = changed(X)
        for name in group.outputs:
            values[name][0] = 3.0
        assert torch.equal(changed(X), unread), group.name


@each_model
def test_every_hidden_channel_is_in_one_group_and_sizes_fit(spec):
    model = scrambled(spec)
    groups, values, weights = channel_groups(model), tensors(model), prunable(model)
    assert len({group.name for group in groups}) == len(groups)
    outputs = [name for group in groups for name in group.outputs]
    inputs = [name for group in groups for name, _ in group.inputs]
    assert len(set(outputs)) == len(outputs) and len(set(inputs)) == len(inputs)
    assert set(weights) - set(outputs) == {"head.weight"}  # its rows are the classes
    (first,) = set(weights) - set(inputs)  # its columns are the image
    assert first == next(iter(weights))
    for group in groups:
        assert all(len(values[name]) == group.size for name in group.outputs)
        assert all(values[n].shape[1] == group.size * repeat for n, repeat in group.inputs)


def test_blocks_of_a_stage_share_the_channels_they_add_up():
    model = build_model(
        {"name": "resnet18", "width": 4}, input_shape=(1, 8, 8), num_classes=3, seed=0
    )
    groups = {group.name: group for group in channel_groups(model)}
    assert len(groups) == 12  # four stages and eight blocks
    stem = groups["stem"]
    weights = [name for name in stem.outputs if name in prunable(model)]
    assert weights == ["conv1.weight", "blocks.0.conv2.weight", "blocks.1.conv2.weight"]
    assert [name for name, _ in stem.inputs] == [
        "blocks.0.conv1.weight",
        "blocks.1.conv1.weight",
        "blocks.2.conv1.weight",
        "blocks.2.shortcut.0.weight",
    ]
    assert [name for name, _ in groups["blocks.6"].inputs] == [
        "blocks.7.conv1.weight",
        "head.weight",
    ]


def test_flattened_channels_cover_several_columns():
    model = build_model("lenet5", input_shape=(1, 28, 28), num_classes=10, seed=0)
    assert channel_groups(model)[1] == ChannelGroup(
        "features.3", 50, ("features.3.weight", "features.3.bias"), (("hidden.0.weight", 16),)
    )


def test_a_linear_classifier_has_no_channels_and_another_module_says_so():
    model = build_model({"name": "mlp", "widths": []}, input_shape=(1, 8, 8), num_classes=3, seed=0)
    assert channel_groups(model) == []
    with pytest.raises(UserError, match="Linear has no channel_groups"):
        channel_groups(nn.Linear(2, 2))
