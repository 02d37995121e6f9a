"""Structures on weights small enough to write the masks out; promises over the registry."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask, density, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.gradual import Gradual
from wiry.sparsify.magnitude import Magnitude, mask_of
from wiry.sparsify.plan import plan
from wiry.sparsify.structure import (
    best_of_groups,
    from_matrix,
    least_sparsity,
    to_matrix,
    validate_pattern,
)


def linear(rows):
    model = nn.Sequential(nn.Linear(len(rows[0]), len(rows), bias=False))
    model[0].weight.data = tensor(rows, dtype=torch.float32)
    return model


def network(seed=0):
    """Convolutions of 3 and 8 input channels, and a head whose rows are no multiple of four."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(54, 5))


def pruned(model, sparsity, structure, allocation="global", alive=None):
    state = SparseState(mask=alive or Mask())
    Magnitude(sparsity=sparsity, structure=structure, allocation=allocation).setup(model, state)
    return state.mask


def test_two_of_four_keeps_the_best_two_of_every_four_inputs():
    model = linear([[9, 8, 7, 6, 1, -4, 2, -3], [1, 1, 1, 1, 5, 6, 7, 8]])
    mask = pruned(model, 0.5, "n-m")
    assert mask["0.weight"].int().tolist() == [[1, 1, 0, 0, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1]]


def test_two_of_four_at_higher_sparsity_keeps_the_best_of_what_the_pattern_allows():
    model = linear([[9, 8, 7, 6, 1, -4, 2, -3], [1, 1, 1, 1, 5, 6, 7, 8]])
    mask = pruned(model, 0.75, "n-m")  # four weights; 7 and 6 in the first row are not allowed
    assert mask["0.weight"].int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]]


def test_groups_of_a_convolution_are_channels_at_one_kernel_place():
    weight = torch.zeros(1, 4, 1, 2)
    weight[0, :, 0, 0] = tensor([1.0, 2, 3, 4])
    weight[0, :, 0, 1] = tensor([8.0, 7, 6, 5])
    assert to_matrix(weight).tolist() == [[1, 2, 3, 4, 8, 7, 6, 5]]
    assert torch.equal(from_matrix(to_matrix(weight), weight.shape), weight)
    kept = best_of_groups(weight, 2, 4)
    assert kept[0, :, 0, 0].int().tolist() == [0, 0, 1, 1]
    assert kept[0, :, 0, 1].int().tolist() == [1, 1, 0, 0]


def test_a_short_last_group_may_keep_n_of_what_it_has():
    assert best_of_groups(tensor([[1.0, 2, 3, 4, 9]]), 2, 4).int().tolist() == [[0, 0, 1, 1, 1]]


def test_too_low_a_sparsity_for_the_pattern_names_the_least():
    with pytest.raises(UserError, match=r"the least sparsity is 0\.5"):
        pruned(linear([[1, 2, 3, 4], [5, 6, 7, 8]]), 0.4, "n-m")
    with pytest.raises(UserError, match=r"the least sparsity is 0\.75"):
        pruned(linear([[1, 2, 3, 4]]), 0.5, {"name": "n-m", "n": 1, "m": 4})
    with pytest.raises(UserError, match="1 <= n <= m"):
        pruned(linear([[1, 2, 3, 4]]), 0.5, {"name": "n-m", "n": 5})


def test_validate_pattern_counts_the_groups_that_break_it():
    good = Mask({"w": tensor([[1, 1, 0, 0, 0, 0, 1, 1]]), "bias": torch.ones(8)})
    validate_pattern(good, 2, 4)
    bad = Mask({"w": tensor([[0, 1, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]])})
    with pytest.raises(UserError, match="2 of 4 groups of 'w'"):
        validate_pattern(bad, 2, 4)
    crossing = torch.zeros(1, 4, 1, 2)  # three at one place, though no three in torch's own order
    crossing[0, :3, 0, 0] = 1
    with pytest.raises(UserError, match="1 of 2 groups"):
        validate_pattern(Mask({"w": crossing}), 2, 4)


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
@pytest.mark.parametrize("sparsity", [0.5, 0.61, 0.9])
def test_two_of_four_is_valid_and_exact_under_any_allocation(sparsity, allocation):
    model = network()
    mask = pruned(model, sparsity, "n-m", allocation)
    validate_pattern(mask, 2, 4)
    total = sum(p.numel() for p in prunable(model).values())
    assert mask.num_kept() == total - round(sparsity * total)


def test_blocks_go_by_the_sum_of_their_scores():
    model = linear([[9, 0, 0, 0, 3, 3, 3, 3], [1, 1, 1, 1, 2, 2, 2, 2]])
    kept = pruned(model, 0.5, {"name": "block", "height": 1, "width": 4})["0.weight"]
    assert kept.int().tolist() == [[1, 1, 1, 1, 1, 1, 1, 1], [0] * 8]
    kept = pruned(model, 0.5, {"name": "block", "height": 2, "width": 2})["0.weight"]
    assert kept.int().tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]] * 2  # 11, 2, 10, 10: the earlier ten


def test_a_block_that_does_not_fit_is_left_out():
    kept = pruned(linear([[9, 9, 9, 9, 3, 3, 3, 3, 5]]), 0.2, "block")["0.weight"]  # room for 7
    assert kept.int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0, 0]]


def test_columns_and_rows_go_as_wholes():
    model = linear([[1, 5, 1, 0], [1, -5, 1, 3]])
    assert pruned(model, 0.5, "column")["0.weight"].int().tolist() == [[0, 1, 0, 1]] * 2
    assert pruned(model, 0.5, "filter-rows")["0.weight"].int().tolist() == [[0] * 4, [1] * 4]


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
@pytest.mark.parametrize("name", ["block", "column", "filter-rows"])
def test_groups_stay_whole_within_the_budget_and_in_every_layer(name, allocation):
    model = network()
    mask = pruned(model, 0.77, name, allocation)
    total = sum(p.numel() for p in prunable(model).values())
    assert mask.num_kept() <= total - round(0.77 * total)
    for value in mask.values():
        assert value.any()
        matrix = to_matrix(value)
        if name == "block":
            for start in range(0, matrix.shape[1], 4):
                part = matrix[:, start : start + 4]
                assert torch.equal(part.any(1), part.all(1))
        else:
            dim = 0 if name == "column" else 1
            assert torch.equal(matrix.any(dim), matrix.all(dim))


def test_a_layer_is_short_by_less_than_a_block():
    model = network()
    exact = pruned(model, 0.77, "unstructured", "layerwise")
    blocks = pruned(model, 0.77, "block", "layerwise")
    for name, value in blocks.items():
        assert 0 <= int(exact[name].sum()) - int(value.sum()) < 4


def test_a_budget_below_one_unit_a_layer_says_so():
    with pytest.raises(UserError, match="one unit a layer"):
        pruned(network(), 0.99, "filter-rows")


@pytest.mark.parametrize("name", registry("structure").names())
def test_no_structure_revives_a_weight(name):
    model = network()
    alive = pruned(model, 0.4, "unstructured", "layerwise")
    mask = pruned(model, 0.8, name, "layerwise", alive)
    assert all(not bool((mask[n] & ~alive[n]).any()) for n in alive)
    total = sum(p.numel() for p in prunable(model).values())
    assert 0 < mask.num_kept() <= total - round(0.8 * total)


def test_scores_from_outside_choose_the_mask_in_any_structure():
    model = linear([[9, 9, 0, 0]])
    scores = {"0.weight": tensor([[0.0, 1.0, 2.0, 3.0]])}
    for name in ("unstructured", "n-m", "column"):
        mask = mask_of(model, scores, Mask(), 0.5, "global", name)
        assert mask["0.weight"].int().tolist() == [[0, 0, 1, 1]], name


def test_gradual_pruning_enters_the_pattern_at_once_and_stays_in_it():
    model, state = network(), SparseState(total_steps=10)
    method = Gradual(sparsity=0.9, num_updates=5, end=1.0, structure="n-m")
    method.setup(model, state)
    assert (
        least_sparsity(model, Mask(), "n-m")
        <= 0.5
        < least_sparsity(model, Mask(), {"name": "n-m", "n": 1, "m": 4})
    )
    densities = []
    for _ in range(10):
        method.after_step(model, state)
        state.step += 1
        if state.mask:
            validate_pattern(state.mask, 2, 4)
        densities.append(density(model, state.mask))
    assert densities[0] == 1.0 and densities[1] < 0.53
    assert densities[-1] == pytest.approx(0.1, abs=1e-3)


def test_the_structure_is_no_part_of_a_spec_unless_it_is_set():
    sparsifiers = registry("sparsifier")
    for name in ("magnitude", "gradual"):
        spec = {"name": name, "sparsity": 0.5}
        assert sparsifiers.normalize(spec | {"structure": "unstructured"}) == spec
        assert sparsifiers.normalize(spec | {"structure": "block"}) == spec | {
            "structure": {"name": "block"}
        }


def test_methods_with_a_structure_prune_the_dense_network_once():
    dense = Stage(name="dense", epochs=3)
    _, stage = plan("n-m", [0.5], dense, 2)
    assert (stage.name, stage.epochs, stage.start.weights) == ("n-m-0.5", 2, "dense")
    assert stage.sparsifier == {
        "name": "magnitude",
        "sparsity": 0.5,
        "structure": {"name": "n-m"},
    }
    _, stage = plan("block", [0.2], dense, 2)
    assert stage.sparsifier["structure"] == {"name": "block"}
    with pytest.raises(UserError, match=r"the least sparsity is 0\.5"):
        plan("n-m", [0.6], dense, 2)
