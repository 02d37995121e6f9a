"""Intervals against values from the literature, and coverage by simulation."""

import math

import pytest
import torch

from wiry.evaluation.interval import mean_interval, student_quantile, wilson


@pytest.mark.parametrize(
    ("num_correct", "num", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),
        (9000, 10000, 0.8940, 0.9057),
    ],
)
def test_wilson_gives_the_written_out_values(num_correct, num, low, high):
    assert wilson(num_correct, num) == pytest.approx((low, high), abs=6e-5)


def test_wilson_is_mirrored_when_right_and_wrong_are_swapped():
    low, high = wilson(3, 17)
    assert wilson(14, 17) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_is_wider_with_more_confidence():
    assert wilson(8, 10, 0.99)[0] < wilson(8, 10, 0.95)[0] < wilson(8, 10, 0.5)[0] < 0.8


@pytest.mark.parametrize(
    ("num_correct", "num", "confidence"),
    [(0, 0, 0.95), (-1, 10, 0.95), (11, 10, 0.95), (1, 10, 0.0), (1, 10, 1.0), (math.nan, 10, 0.9)],
)
def test_wilson_refuses_what_has_no_interval(num_correct, num, confidence):
    with pytest.raises(ValueError, match=r"must be|needs"):
        wilson(num_correct, num, confidence)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
def test_wilson_covers_the_truth_as_often_as_it_says(share):
    num, num_trials = 200, 4000
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(num_trials, num, generator=generator) < share
    covered = 0
    for num_correct in draws.sum(1).tolist():
        low, high = wilson(num_correct, num)
        covered += low <= share <= high
    assert 0.93 < covered / num_trials < 0.97


@pytest.mark.parametrize(
    ("num_degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622)]
)
def test_student_quantile_gives_the_tabulated_values(num_degrees, quantile):
    assert student_quantile(0.975, num_degrees) == pytest.approx(quantile, abs=5e-5)


def test_interval_of_one_seed_is_the_wilson_interval():
    assert mean_interval([0.8], 10) == wilson(8, 10)


def test_equal_seeds_do_not_narrow_the_interval():
    assert mean_interval([0.8] * 5, 10) == pytest.approx(wilson(8, 10))


def test_spread_of_seeds_widens_the_interval_by_the_written_out_amount():
    # mean 0.8, deviation of the two seeds 0.02 / sqrt(2), over sqrt(2) seeds, t(1) = 12.7062
    low, high = mean_interval([0.79, 0.81], 10_000)
    spread = 12.7062 * 0.02 / math.sqrt(2) / math.sqrt(2)
    wilson_low, wilson_high = wilson(8000, 10_000)
    assert low == pytest.approx(0.8 - math.hypot(0.8 - wilson_low, spread), abs=1e-5)
    assert high == pytest.approx(0.8 + math.hypot(wilson_high - 0.8, spread), abs=1e-5)


def test_mean_interval_stays_within_zero_and_one():
    assert mean_interval([0.0, 1.0], 10) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("accuracies", "num"), [([], 10), ([1.2], 10), ([-0.1, 0.5], 10), ([1], 0)]
)
def test_mean_interval_refuses_what_has_no_interval(accuracies, num):
    with pytest.raises(ValueError, match=r"must be|needs"):
        mean_interval(accuracies, num)
