"""The turning point of curves whose shape is known."""

import numpy as np
import pytest

from wiry.evaluation.turning import turning_point

UP_AND_DOWN = (0.50, 0.60, 0.70, 0.60, 0.40)
FLAT = (0.50, 0.50, 0.50, 0.50, 0.50)
FALLING = (0.70, 0.60, 0.50, 0.40, 0.30)
RISING = (0.30, 0.40, 0.50, 0.60, 0.70)


def curve(means, num_seeds: int = 3, num_images: int = 2000, seed: int = 0) -> np.ndarray:
    """Right or wrong for each image, drawn with the given means."""
    draw = np.random.default_rng(seed).random((len(means), num_seeds, num_images))
    return (draw < np.array(means)[:, None, None]).astype(float)


def turn(values: np.ndarray):
    return turning_point(values, generator=np.random.default_rng(1), num_resamples=400)


def test_numbers_of_a_curve_without_noise_written_out():
    values = np.broadcast_to(np.array(UP_AND_DOWN)[:, None, None], (5, 3, 4))
    found = turn(values)
    assert found.best == 2 and found.interval == (2, 2) and found.share_inside == 1.0
    assert found.gain == pytest.approx(0.2) and found.fall == pytest.approx(0.3)
    assert found.gain_interval == pytest.approx((0.2, 0.2), abs=1e-6)
    assert found.held_out_gain == pytest.approx(0.2)
    assert found.held_out_range == pytest.approx((0.2, 0.2))


def test_an_inverted_u_is_seen_and_its_intervals_hold_the_truth():
    found = turn(curve(UP_AND_DOWN))
    assert found.is_inverted_u() and found.best == 2
    assert found.gain_interval[0] < 0.2 < found.gain_interval[1]
    assert not found.is_inverted_u(least=0.25)


@pytest.mark.parametrize("means", [FLAT, FALLING, RISING], ids=["flat", "falling", "rising"])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_curve_is_taken_for_one(means, seed):
    assert not turn(curve(means, seed=seed)).is_inverted_u()


def test_the_chosen_gain_of_noise_is_flattered_and_the_held_out_one_is_not():
    gains = [turn(curve(FLAT, num_images=200, seed=seed)) for seed in range(40)]
    assert np.mean([found.gain for found in gains]) > 0.015
    assert abs(np.mean([found.held_out_gain for found in gains])) < 0.012


def test_seeds_that_disagree_widen_the_interval():
    together = curve(UP_AND_DOWN)
    apart = together.copy()
    apart[1, 0], apart[1, 1] = 1.0, 0.0
    narrow, wide = turn(together).interval, turn(apart).interval
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_one_seed_has_no_held_out_gain_and_is_never_called_an_inverted_u():
    found = turn(curve(UP_AND_DOWN, num_seeds=1))
    assert np.isnan(found.held_out_gain) and not found.is_inverted_u()


def test_two_points_are_too_few():
    with pytest.raises(ValueError, match="a turn needs three points"):
        turn(curve((0.5, 0.6)))
