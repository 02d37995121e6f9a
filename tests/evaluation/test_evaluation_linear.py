"""Theorem 3.1 of Guo et al. 2018: on data, in closed form, and both against each other."""

import math

import pytest
import torch

from wiry.core.rng import stream
from wiry.evaluation.linear import (
    gaussian_r_2,
    gaussian_r_inf,
    r_2,
    r_inf,
    theorem_r_2,
    theorem_r_inf,
)

NUM, SIZE, DEVIATION = 40_000, 12, 0.8
MEAN = torch.linspace(0.05, 0.6, SIZE)
DENSE = MEAN.clone()  # the best l2 direction
SPARSE = torch.zeros(SIZE).index_fill_(0, torch.tensor([SIZE - 1]), 1.0)
OTHER = torch.randn(SIZE, generator=stream(3, "weight")) + 0.5
each_weight = pytest.mark.parametrize("weight", [DENSE, SPARSE, OTHER], ids=["mean", "one", "any"])


def gaussian_pair():
    """Balanced points of both classes; the second class mirrors the first."""
    x = MEAN + DEVIATION * torch.randn(NUM // 2, SIZE, generator=stream(0, "points"))
    half = torch.ones(NUM // 2)
    return torch.cat([x, -x]), torch.cat([half, -half])


def test_values_of_three_points_written_out():
    weight = torch.tensor([3.0, -4.0])
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # w'x + 1: 4, -3, 0 -> margins 4, 3, 0
    y = torch.tensor([1.0, -1.0, 1.0])
    assert r_2(weight, 1.0, x, y) == pytest.approx((4 / 5 + 3 / 5 + 0) / 3)
    assert r_inf(weight, 1.0, x, y, eps=0.5) == pytest.approx(1 / 3)  # 3.5 off: only 4 survives
    assert r_inf(weight, 1.0, x, y, eps=0.4) == pytest.approx(2 / 3)
    assert r_2(torch.zeros(2), 1.0, x, y) == 0.0


@each_weight
def test_r_2_of_a_gaussian_pair_is_the_closed_form_within_monte_carlo_error(weight):
    """Corollary (i)."""
    x, y = gaussian_pair()
    margin = (y * (x @ weight)).clamp_min(0) / weight.norm()
    error = float(margin.std()) / math.sqrt(NUM / 2)
    expected = gaussian_r_2(weight, MEAN, DEVIATION)
    assert r_2(weight, 0.0, x, y) == pytest.approx(expected, abs=4 * error)


@each_weight
@pytest.mark.parametrize("eps", [0.05, 0.2, 0.5])
def test_r_inf_of_a_gaussian_pair_is_the_closed_form_within_monte_carlo_error(weight, eps):
    """Corollary (i)."""
    x, y = gaussian_pair()
    expected = gaussian_r_inf(weight, MEAN, DEVIATION, eps=eps)
    error = math.sqrt(expected * (1 - expected) / (NUM / 2))
    assert r_inf(weight, 0.0, x, y, eps=eps) == pytest.approx(expected, abs=4 * error + 1e-4)


@each_weight
def test_the_theorems_r_2_is_the_measured_one_where_its_assumptions_hold(weight):
    x, y = gaussian_pair()
    assert theorem_r_2(weight, 0.0, x, y) == pytest.approx(r_2(weight, 0.0, x, y), rel=1e-4)


@each_weight
@pytest.mark.parametrize("eps", [0.01, 0.2, 0.5])
def test_the_theorems_r_inf_is_an_upper_bound(weight, eps):
    x, y = gaussian_pair()
    assert r_inf(weight, 0.0, x, y, eps=eps) <= theorem_r_inf(weight, 0.0, x, y, eps=eps)


def test_the_dense_weight_is_the_better_in_l2_and_a_sparse_one_in_linf():
    """The reading of Theorem 3.1, where one pixel carries much more than the others."""
    mean = torch.cat([torch.full((99,), 0.05), torch.tensor([0.6])])
    dense, sparse = mean, torch.zeros(100).index_fill_(0, torch.tensor([99]), 1.0)
    assert gaussian_r_2(dense, mean, 0.3) > gaussian_r_2(sparse, mean, 0.3)
    assert gaussian_r_inf(sparse, mean, 0.3, eps=0.3) > gaussian_r_inf(dense, mean, 0.3, eps=0.3)


def test_attacked_points_written_out_give_the_same_r_inf():
    x, y = gaussian_pair()
    attacked = x - 0.2 * y[:, None] * OTHER.sign()
    share = float(((attacked @ OTHER) * y > 0).float().mean())
    assert r_inf(OTHER, 0.0, x, y, eps=0.2) == pytest.approx(share, abs=1e-4)


def test_labels_that_are_not_signs_are_refused():
    with pytest.raises(ValueError, match="labels of a linear classifier are -1 and 1"):
        r_2(DENSE, 0.0, torch.zeros(2, SIZE), torch.tensor([0.0, 1.0]))
