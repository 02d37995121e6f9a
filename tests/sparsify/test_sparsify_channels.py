"""Filter pruning and network slimming, with the channels that go written out."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask, density, num_alive, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.models.base import build_model
from wiry.sparsify.channels import removal_order, removed_channels
from wiry.sparsify.filter import FilterPruning, filter_norms
from wiry.sparsify.plan import plan
from wiry.sparsify.slimming import NetworkSlimming, mean_scales

SPECS = [
    {"name": "mlp", "widths": [16]},
    {"name": "cnn-small", "width": 4},
    {"name": "resnet18", "width": 4},
]


def build(spec, num_classes=10):
    return build_model(spec, input_shape=(1, 8, 8), num_classes=num_classes, seed=0)


def two_layers():
    """2 inputs, 3 and 2 hidden units, 2 classes: 6 + 6 + 4 weights."""
    model = build_model(
        {"name": "mlp", "widths": [3, 2]}, input_shape=(1, 1, 2), num_classes=2, seed=0
    )
    with torch.no_grad():
        model.hidden[0].weight.copy_(tensor([[1.0, -1.0], [5.0, 0.0], [0.0, -3.0]]))
        model.hidden[2].weight.copy_(tensor([[1.0, 1.0, 1.0], [0.5, -0.1, 0.0]]))
    return model


def test_filter_pruning_removes_the_smallest_filter_with_all_that_reads_it():
    model, state = two_layers(), SparseState()
    FilterPruning(sparsity=0.2).setup(model, state)  # a third of the first group comes first
    assert state.mask["hidden.0.weight"].tolist() == [[False] * 2, [True] * 2, [True] * 2]
    assert state.mask["hidden.0.bias"].tolist() == [False, True, True]
    assert state.mask["hidden.2.weight"].tolist() == [[False, True, True]] * 2
    assert all(state.mask[n].all() for n in ("hidden.2.bias", "head.weight"))
    assert "head.bias" not in state.mask and num_alive(model, state.mask) == 12


def test_layerwise_takes_equal_shares_and_global_the_smallest_anywhere():
    groups = channel_groups(two_layers())
    scores = {"hidden.0": tensor([1.0, 5.0, 3.0]), "hidden.2": tensor([1.0, 0.2])}
    first, second = "hidden.0", "hidden.2"
    assert removal_order(groups, scores, "layerwise") == [(first, 0), (second, 1), (first, 2)]
    assert removal_order(groups, scores, "global") == [(second, 1), (first, 0), (first, 2)]


def test_ties_keep_the_lower_channel_and_are_shared_between_groups():
    groups = channel_groups(build({"name": "mlp", "widths": [4, 2]}))
    scores = {"hidden.0": torch.ones(4), "hidden.2": torch.ones(2)}
    expected = [("hidden.0", 3), ("hidden.0", 2), ("hidden.2", 1), ("hidden.0", 1)]
    assert removal_order(groups, scores, "global") == expected


def test_scores_are_means_over_all_filters_that_write_a_channel():
    model = build({"name": "resnet18", "width": 4})
    with torch.no_grad():
        for index, weight in enumerate((model.conv1, model.blocks[0].conv2, model.blocks[1].conv2)):
            weight.weight[2] = -float(index + 1)
        for index, norm in enumerate((model.bn1, model.blocks[0].bn2, model.blocks[1].bn2)):
            norm.weight[1] = float(-index)
    assert float(filter_norms(model)["stem"][2]) == pytest.approx((9 + 2 * 36 + 3 * 36) / 81)
    assert mean_scales(model)["stem"].tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("scope", ["layerwise", "global"])
@pytest.mark.parametrize("name", ["filter", "slimming"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["name"])
def test_no_more_than_the_budget_stays_and_one_channel_less_removed_would_be_too_much(
    name, scope, spec
):
    if (name, spec["name"]) == ("slimming", "mlp"):
        pytest.skip("no batch normalisation; refused, see below")
    model, state = build(spec), SparseState()
    registry("sparsifier").build({"name": name, "sparsity": 0.77, "scope": scope}).setup(
        model, state
    )
    total = sum(p.numel() for p in prunable(model).values())
    largest_step = max(_weights_of_a_channel(model, group) for group in channel_groups(model))
    assert 0 <= total - round(0.77 * total) - num_alive(model, state.mask) < largest_step
    removed = removed_channels(model, state.mask)
    assert all(not bool(channels.all()) for channels in removed.values())
    assert any(bool(channels.any()) for channels in removed.values())
    assert all(bool(value.any()) for value in state.mask.values())
    _check_only_whole_channels_are_gone(model, state.mask, removed)


def _weights_of_a_channel(model, group):
    parameters = prunable(model)
    rows = sum(parameters[name][0].numel() for name in group.outputs if name in parameters)
    return rows + sum(parameters[name][:, 0].numel() * repeat for name, repeat in group.inputs)


def _check_only_whole_channels_are_gone(model, mask, removed):
    """Check that exactly the removed channels' rows and columns are masked."""
    parameters = dict(model.named_parameters())
    expected = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in parameters.items()}
    for group in channel_groups(model):
        for channel in removed[group.name].nonzero().flatten().tolist():
            for name in (name for name in group.outputs if name in parameters):
                expected[name][channel] = False
            for name, repeat in group.inputs:
                expected[name][:, channel * repeat : (channel + 1) * repeat] = False
    assert all(torch.equal(mask[name], expected[name]) for name in mask)
    assert all(bool(expected[name].all()) for name in expected if name not in mask)


@pytest.mark.parametrize("name", ["filter", "slimming"])
def test_no_sparsity_removes_nothing(name):
    model, state = build(SPECS[1]), SparseState()
    registry("sparsifier").build({"name": name, "sparsity": 0.0}).setup(model, state)
    assert density(model, state.mask) == 1.0


def test_a_target_out_of_reach_names_what_can_be_reached():
    model = build({"name": "mlp", "widths": [16]})  # 16 * 64 + 10 * 16; one unit has 74
    reached = r"0\.99 cannot be reached .* it is 0\.9375, at which 74 of 1184 weights remain"
    with pytest.raises(UserError, match=reached):
        FilterPruning(sparsity=0.99).setup(model, SparseState())
    state = SparseState()
    FilterPruning(sparsity=0.9375).setup(model, state)
    assert num_alive(model, state.mask) == 74


def test_slimming_refuses_a_target_out_of_reach_before_it_trains():
    with pytest.raises(UserError, match="cannot be reached"):
        NetworkSlimming(sparsity=0.999).setup(build(SPECS[1]), SparseState(total_steps=100))


def test_pruning_further_keeps_what_is_gone_gone_and_counts_it():
    model, state = build(SPECS[1]), SparseState()
    state.mask = Mask({"features.6.weight": torch.rand(8, 8, 3, 3) < 0.5})
    start = state.mask["features.6.weight"].clone()
    state.mask.apply_(model)
    FilterPruning(sparsity=0.6).setup(model, state)
    first = state.mask
    assert not bool((first["features.6.weight"] & ~start).any())
    assert density(model, first) <= 0.4
    first.apply_(model)
    FilterPruning(sparsity=0.8).setup(model, state)
    assert all(not bool((state.mask[name] & ~first[name]).any()) for name in first)
    FilterPruning(sparsity=0.3).setup(model, state)  # already sparser than that
    assert density(model, state.mask) <= 0.2


def test_scores_that_are_not_finite_are_refused():
    model = build(SPECS[0])
    with torch.no_grad():
        model.hidden[0].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"'hidden\.0' are not finite"):
        FilterPruning().setup(model, SparseState())


def test_slimming_needs_batch_normalisation():
    message = "needs batch normalisation in every channel group.*'hidden.0' has none.*'filter'"
    with pytest.raises(UserError, match=message):
        NetworkSlimming().setup(build(SPECS[0]), SparseState())
    with pytest.raises(UserError, match="no channel_groups"):
        FilterPruning().setup(nn.Linear(2, 2), SparseState())


def test_slimming_penalises_scales_only_and_only_in_its_first_part():
    model, state = build(SPECS[1]), SparseState(total_steps=4)
    method = NetworkSlimming(sparsity=0.5, l1=0.25, search=0.5)
    method.setup(model, state)
    with torch.no_grad():
        model.features[1].weight.copy_(tensor([2.0, -3.0, 0.0, 1.0]))
    masks, penalties = [], []
    for _ in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        method.after_backward(model, state)
        penalties.append(model.features[1].weight.grad.tolist())
        touched = {name for name, p in model.named_parameters() if bool(p.grad.any())}
        assert touched <= {f"features.{i}.weight" for i in (1, 4, 7)}
        method.after_step(model, state)
        masks.append(density(model, state.mask))
        state.step += 1
    assert penalties[:2] == [[0.25, -0.25, 0.0, 0.25]] * 2 and penalties[2:] == [[0.0] * 4] * 2
    assert masks[0] == 1.0 and masks[1] <= 0.5 and masks[1:] == [masks[1]] * 3
    assert not bool(state.mask["features.1.weight"][2])  # the scale of zero goes first
    assert torch.equal(model.features[1].weight == 0, ~state.mask["features.1.weight"])


def test_the_plan_of_slimming_is_one_stage_from_scratch():
    dense = Stage(name="dense", epochs=3)
    (stage,) = plan("slimming", [0.25], dense, 1)
    assert stage.name == "slimming-0.25" and stage.start.weights == "init"
    assert stage.sparsifier == {"name": "slimming", "sparsity": 0.75, "search": 0.75}
    assert plan("filter", [0.25], dense, 1)[0] == dense


@pytest.mark.parametrize(
    "fields", [{"sparsity": 1.0}, {"search": 1.5}, {"l1": -1.0}, {"scope": "local"}], ids=str
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(UserError, match="sparsifier 'slimming'"):
        registry("sparsifier").build({"name": "slimming", **fields})
