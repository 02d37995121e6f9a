"""Selection, allocation and schedules: exact counts, ties, written-out answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.sparsify.allocate import erk, global_, layerwise, split_budget, table
from wiry.sparsify.select import keep_largest, restrict


def test_keep_largest_keeps_the_largest():
    assert keep_largest(tensor([1.0, 4.0, 3.0, 2.0]), 2).tolist() == [False, True, True, False]


def test_ties_go_to_the_lower_index_and_the_count_is_exact():
    assert keep_largest(torch.ones(5), 2).tolist() == [True, True, False, False, False]


@given(st.lists(st.sampled_from([float("-inf"), -1.0, 0.0, 0.5, 0.5, 2.0]), min_size=1), st.data())
def test_selection_equals_a_stable_sort_whatever_the_ties(values, data):
    scores, count = tensor(values), data.draw(st.integers(0, len(values)))
    wanted = torch.zeros(len(values), dtype=torch.bool)
    wanted[torch.sort(scores, descending=True, stable=True).indices[:count]] = True
    assert torch.equal(keep_largest(scores, count), wanted)


def test_a_nan_score_is_refused():
    with pytest.raises(ValueError, match="diverged"):
        keep_largest(tensor([1.0, float("nan")]), 1)


def test_restrict_never_revives():
    scores = restrict({"a": tensor([9.0, 1.0])}, Mask({"a": tensor([False, True])}))
    assert keep_largest(scores["a"], 1).tolist() == [False, True]


def test_global_ranks_over_all_layers():
    scores = {"a": tensor([9.0, 8.0]), "b": tensor([1.0, 7.0, 2.0])}
    assert global_(scores, Mask(), 3) == {"a": 2, "b": 1}


def test_layerwise_gives_equal_densities():
    scores = {"a": torch.rand(100), "b": torch.rand(50)}
    assert layerwise(scores, Mask(), 15) == {"a": 10, "b": 5}


def test_erk_gives_thin_layers_more():
    scores = {"a": torch.rand(100, 100), "b": torch.rand(10, 10)}
    assert erk(scores, Mask(), 110) == {"a": 100, "b": 10}  # shares 200 : 20
    # the small layer is full at 1,110, the rest goes to the large one
    assert erk(scores, Mask(), 2100) == {"a": 2000, "b": 100}


def test_table_wants_an_entry_for_every_layer():
    scores = {"conv.weight": torch.rand(10), "head.weight": torch.rand(10)}
    assert table(scores, Mask(), 9, weights={"head*": 2.0, "*": 1.0}) == {
        "conv.weight": 3,
        "head.weight": 6,
    }
    with pytest.raises(UserError, match=r"conv\.weight"):
        table(scores, Mask(), 9, weights={"head*": 1.0})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_split_budget_is_exact_and_within_limits(data):
    sizes = data.draw(st.lists(st.integers(0, 500), min_size=1, max_size=6))
    limits = {str(i): size for i, size in enumerate(sizes)}
    shares = {name: data.draw(st.floats(0.01, 1000)) for name in limits}
    total = data.draw(st.integers(0, sum(sizes)))
    counts = split_budget(shares, limits, total)
    assert sum(counts.values()) == total
    assert all(0 <= counts[name] <= limits[name] for name in limits)


def test_asking_for_more_than_is_left_is_refused():
    with pytest.raises(UserError, match="leaves 3"):
        split_budget({"a": 1.0}, {"a": 3}, 4)


@pytest.mark.parametrize("name", registry("schedule").names())
def test_a_schedule_goes_from_0_to_1_and_never_back(name):
    values = [registry("schedule").build(name, progress=i / 20) for i in range(21)]
    assert values[0] == 0 and values[-1] == 1
    assert values == sorted(values)


def test_global_does_not_revive_what_the_start_mask_pruned():
    alive = Mask({"a": torch.arange(100) < 10})
    with pytest.raises(UserError, match="leaves 10"):
        global_({"a": torch.rand(100)}, alive, 50)
