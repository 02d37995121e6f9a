"""Drawing absent links, and the allocation that starts with dense ends."""

import pytest
import torch

from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.sparsify.resample import draw_absent_, spread_over_layers


def test_layers_are_drawn_in_proportion_to_their_size():
    generator = torch.Generator().manual_seed(0)
    counts = spread_over_layers(10_000, [1000, 8000, 1000], [10_000] * 3, generator)
    assert sum(counts) == 10_000
    assert counts[1] == pytest.approx(8000, abs=200)


def test_what_does_not_fit_into_a_layer_goes_to_the_others():
    generator = torch.Generator().manual_seed(0)
    assert spread_over_layers(60, [900, 90, 10], [0, 50, 10], generator) == [0, 50, 10]


@pytest.mark.parametrize(("num_kept", "num"), [(5, 3), (45, 3), (5, 40), (20, 0), (10, 40)])
def test_absent_links_are_drawn_uniformly_and_never_twice(num_kept, num):
    generator = torch.Generator().manual_seed(0)
    hits = torch.zeros(50)
    start = torch.zeros(50, dtype=torch.bool)
    start[:num_kept] = True
    for _ in range(600):
        kept = start.clone()
        places = draw_absent_(kept, num, 50 - num_kept, generator)
        assert len(places.unique()) == num
        assert int(kept.sum()) == num_kept + num and kept[places].all() and kept[:num_kept].all()
        hits[places] += 1
    assert not hits[:num_kept].any()
    share = num / (50 - num_kept)
    tolerance = 5 * (600 * share * (1 - share)) ** 0.5 + 1e-9
    assert (hits[num_kept:] - 600 * share).abs().max() <= tolerance


def counts_of(sizes, num_keep, **fields):
    scores = {str(i): torch.rand(n) for i, n in enumerate(sizes)}
    spec = {"name": "dense-ends", **fields}
    counts = registry("allocation").build(spec, scores=scores, alive=Mask(), num_keep=num_keep)
    return list(counts.values())


def test_dense_ends_follow_the_paper_where_the_budget_allows():
    sizes = [100, 1000, 10_000, 10_000, 10_000, 10_000, 10_000, 500]  # two of eight are early
    counts = counts_of(sizes, 5160)  # density 0.1: 60 + 200 + 5 x 500 + 300 = 3060, 2100 left over
    assert sum(counts) == 5160
    left = 2100 / 51_600  # what is missing goes everywhere, in proportion to size
    asked = [0.6, 0.2, *[0.05] * 5, 0.6]
    expected = [size * (share + left) for size, share in zip(sizes, asked, strict=True)]
    assert counts == pytest.approx(expected, abs=40)


def test_dense_ends_never_exceed_the_budget_nor_starve_the_middle():
    sizes = [784 * 300, 300 * 100, 100 * 10]  # the first layer alone asks for five times the budget
    counts = counts_of(sizes, 26_620)
    assert sum(counts) == 26_620
    assert counts[1] == 1500  # half of the global density 0.1
    assert counts[0] / sizes[0] == pytest.approx(counts[2] / sizes[2], rel=0.01)
    for num_keep in (1, 7, 266_199, 266_200):
        assert sum(counts_of(sizes, num_keep)) == num_keep


def test_dense_ends_refuse_densities_above_one():
    with pytest.raises(ValueError, match="first must be in"):
        counts_of([10, 10], 5, first=60)
