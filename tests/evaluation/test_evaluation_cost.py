"""Costs of layers whose counts are written out."""

import pytest
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.evaluation.cost import cost, count_dead_units


def linear():
    """3 inputs, 2 outputs, all weights one."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    nn.init.ones_(model[1].weight)
    return model


KEPT = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()


def test_linear_layer_has_the_written_out_cost():
    found = cost(linear(), Mask({"1.weight": KEPT}), input_shape=(3, 1, 1))
    layer = found.pop("layers")[0]
    assert found == {
        "mask_density": 2 / 6,
        "nonzero_density": 2 / 6,
        "sparsity": 1 - 2 / 6,
        "nonzeros": 2,
        "prunable": 6,
        "parameters": 8,
        "dead_units": 1,
        "units": 2,
        "flops_dense": 12,  # 6 multiply-accumulates
        "flops_sparse": 4,
        "flops_uncounted": [],
        "bytes_dense": 32,
        "bytes_sparse": 1 + 2 * 4 + 2 * 4,  # 6 bits, two values, two biases
    }
    assert layer == {
        "name": "1.weight",
        "shape": [2, 3],
        "kept": 2,
        "nonzeros": 2,
        "entries": 6,
        "density": 2 / 6,
        "flops_dense": 12,
        "flops_sparse": 4,
    }


def test_convolution_has_the_written_out_flops():
    # 4 x 4 outputs at stride 2 of 8 x 8, each 5 channels x 3 inputs x 3 x 3 multiply-accumulates
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.ReLU())
    kept = torch.zeros(5, 3, 3, 3).bool()
    kept[0, 0, 0, :2] = True
    found = cost(model, Mask({"0.weight": kept}), input_shape=(3, 8, 8))
    assert found["flops_dense"] == 2 * 16 * 5 * 3 * 9
    assert found["flops_sparse"] == 2 * 16 * 2
    assert (found["dead_units"], found["units"]) == (4, 5)
    # weight 135, bias 5, batch norm 4 x 5 floats and one int64 counter
    assert found["bytes_dense"] == 4 * (135 + 5 + 20) + 8
    assert found["bytes_sparse"] == 17 + 4 * 2 + 4 * 25 + 8
    assert found["parameters"] == 135 + 5 + 10


def test_grouped_and_transposed_convolutions_are_counted_by_their_weights():
    grouped = nn.Conv2d(4, 6, 3, groups=2, padding=1)
    assert cost(grouped, Mask(), input_shape=(4, 5, 5))["flops_dense"] == 2 * 25 * 6 * 2 * 9
    transposed = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert cost(transposed, Mask(), input_shape=(4, 5, 5))["flops_dense"] == 2 * 25 * 4 * 6 * 4


def test_layer_used_twice_counts_twice_in_flops_and_once_in_bytes():
    layer = nn.Linear(3, 3, bias=False)
    once = cost(nn.Sequential(nn.Flatten(), layer), Mask(), input_shape=(3, 1, 1))
    twice = cost(nn.Sequential(nn.Flatten(), layer, layer), Mask(), input_shape=(3, 1, 1))
    assert twice["flops_dense"] == 2 * once["flops_dense"] == 36
    assert twice["bytes_dense"] == once["bytes_dense"] == 36


def test_zero_weights_that_are_kept_tell_the_two_densities_apart():
    model = linear()
    with torch.no_grad():
        model[1].weight[0, 0] = 0
    found = cost(model, Mask({"1.weight": KEPT}), input_shape=(3, 1, 1))
    assert (found["mask_density"], found["nonzero_density"]) == (2 / 6, 1 / 6)
    assert found["sparsity"] == 1 - 1 / 6 and found["flops_sparse"] == 2


def test_dead_units_are_rows_with_nothing_coming_in():
    model = nn.Sequential(nn.Linear(2, 3), nn.ConvTranspose2d(4, 6, 1, groups=2))
    weight = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert count_dead_units(model, "0.weight", weight) == (2, 3)
    weight = torch.zeros(4, 3, 1, 1)  # inputs 0, 1 feed units 0 to 2; inputs 2, 3 units 3 to 5
    weight[0, 1] = weight[1, 1] = weight[3, 0] = 1
    assert count_dead_units(model, "1.weight", weight) == (4, 6)


def test_dense_model_costs_the_same_dense_and_sparse_but_for_the_bits():
    found = cost(linear(), Mask(), input_shape=(3, 1, 1))
    assert found["mask_density"] == found["nonzero_density"] == 1.0 and found["sparsity"] == 0.0
    assert found["flops_dense"] == found["flops_sparse"]
    assert found["bytes_sparse"] == found["bytes_dense"] + 1


class Narrow(nn.Module):
    """Two layers of which one may be pruned, and a weight that no layer module uses."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.free = nn.Parameter(torch.ones(2, 2))

    def prunable(self):
        return ["first.weight", "free"]

    def forward(self, x):
        return self.last(self.first(x.flatten(1))) @ self.free


def test_weights_that_are_not_prunable_count_in_full():
    kept = torch.zeros(4, 3).bool()
    found = cost(Narrow(), Mask({"first.weight": kept}), input_shape=(3, 1, 1))
    assert found["prunable"] == 16 and found["units"] == 6
    assert (found["flops_dense"], found["flops_sparse"]) == (2 * (12 + 8), 2 * 8)
    assert found["flops_uncounted"] == ["free"]


@pytest.mark.parametrize(("name", "shape"), [("first.weight", (3, 3)), ("other", (2, 2))])
def test_mask_that_does_not_fit_is_refused_by_name(name, shape):
    with pytest.raises(UserError, match=name):
        cost(Narrow(), Mask({name: torch.ones(shape)}), input_shape=(3, 1, 1))


def test_masked_biases_of_removed_channels_are_allowed_and_change_no_count():
    removed = Mask({"1.weight": KEPT, "1.bias": torch.tensor([True, False])})
    alone = Mask({"1.weight": KEPT})
    assert cost(linear(), removed, input_shape=(3, 1, 1)) == cost(
        linear(), alone, input_shape=(3, 1, 1)
    )


def test_counting_changes_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    cost(model, Mask({"0.weight": torch.zeros(2, 1, 3, 3)}), input_shape=(1, 5, 5))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())


def test_hooks_are_removed_when_the_model_fails():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(999, 2))
    with pytest.raises(RuntimeError):
        cost(model, Mask(), input_shape=(1, 5, 5))
    assert all(not module._forward_hooks for module in model.modules())
