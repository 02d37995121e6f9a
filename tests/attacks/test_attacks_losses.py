"""Losses and projections on numbers small enough to write out, or against a slower way."""

import math

import pytest
import torch
from torch import tensor

from wiry.attacks.apgd import checkpoints
from wiry.attacks.losses import cross_entropy, dlr, kl, margin, targeted_dlr
from wiry.attacks.projections import Ball, lengths, project_l1
from wiry.attacks.square import Square, bump
from wiry.core.rng import stream

LOGITS = tensor([[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0]])
LABELS = tensor([0, 2])


def test_margin_is_the_largest_other_logit_minus_the_own():
    assert margin(LOGITS, LABELS).tolist() == [3 - 5, 5 - 1]


def test_dlr_divides_the_margin_by_the_gap_from_first_to_third():
    torch.testing.assert_close(dlr(LOGITS, LABELS), tensor([-2 / 4, 4 / 4]))


def test_dlr_is_unchanged_by_scaling_and_shifting_the_logits():
    torch.testing.assert_close(dlr(3 * LOGITS + 7, LABELS), dlr(LOGITS, LABELS))


def test_targeted_dlr_divides_by_the_gap_from_first_to_the_mean_of_third_and_fourth():
    target = tensor([1, 0])
    expected = tensor([(3 - 5) / (5 - 0.5), (5 - 1) / (5 - 0.5)])
    torch.testing.assert_close(targeted_dlr(LOGITS, LABELS, target), expected)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_dlr_is_the_margin_below_four_classes(num_classes):
    logits, y = LOGITS[:1, :num_classes], tensor([0])
    assert dlr(logits, y).tolist() == [3 - 5]
    assert targeted_dlr(logits, y, tensor([num_classes - 1])).tolist() == [float(logits[0, -1]) - 5]


def test_dlr_of_equal_logits_is_finite():
    assert dlr(torch.zeros(1, 5), tensor([0])).tolist() == [0]


def test_cross_entropy_and_divergence_of_two_written_out_predictions():
    logits = tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
    assert cross_entropy(logits, tensor([1])).item() == pytest.approx(math.log(4))
    clean = tensor([[0.5, 0.5]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl(logits, clean).item() == pytest.approx(expected)


def test_l1_projection_of_a_written_out_offset_spends_the_radius_on_the_largest_entries():
    x = torch.full((1, 1, 1, 4), 0.5)
    offset = tensor([0.4, -0.3, 0.1, 0.0]).view(1, 1, 1, 4)
    found = project_l1(offset, x, 0.5).flatten()
    torch.testing.assert_close(found, tensor([0.3, -0.2, 0.0, 0.0]))


def test_l1_projection_counts_only_what_the_box_leaves():
    x = tensor([0.9, 0.5, 0.5, 0.5]).view(1, 1, 1, 4)
    offset = tensor([2.0, 0.4, -0.2, 0.0]).view(1, 1, 1, 4)
    found = project_l1(offset, x, 0.5).flatten()
    # 0.1 is all that fits in the first entry; 0.4 is left for the others, which give up 0.1 each
    torch.testing.assert_close(found, tensor([0.1, 0.3, -0.1, 0.0]))


def test_l1_projection_agrees_with_bisection_for_the_threshold():
    generator = stream(0, "l1")
    x = torch.rand(50, 1, 5, 5, generator=generator)
    offset = torch.randn(50, 1, 5, 5, generator=generator) * 0.5
    room = torch.where(offset > 0, 1 - x, x)
    for eps in (0.05, 1.0, 5.0, 100.0):
        low, high = torch.zeros(50, 1, 1, 1), torch.full((50, 1, 1, 1), 10.0)
        if eps == 100:
            high = low  # everything fits
        for _ in range(60):
            middle = (low + high) / 2
            size = (offset.abs() - middle).clamp(min=0).minimum(room)
            too_long = size.sum((1, 2, 3), keepdim=True) > eps
            low, high = torch.where(too_long, middle, low), torch.where(too_long, high, middle)
        expected = offset.sign() * (offset.abs() - high).clamp(min=0).minimum(room)
        torch.testing.assert_close(project_l1(offset, x, eps), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 0.6), ("l1", 1.5)])
def test_draws_fill_the_ball_evenly(norm, eps):
    """A uniform point is within half the radius with probability 1/2 to the dimension."""
    x = torch.full((20_000, 1, 1, 3), 0.5)
    far = lengths(Ball(x, norm, eps).draw(stream(0, "draw")) - x, norm)
    if norm == "l1":  # the box cuts off nothing only below 0.5
        far = lengths(Ball(x, norm, 0.4).draw(stream(0, "draw")) - x, norm) / 0.4 * eps
    if norm == "l2":
        far = lengths(Ball(x, norm, 0.4).draw(stream(0, "draw")) - x, norm) / 0.4 * eps
    assert (far < eps / 2).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert far.max() <= eps


def test_apgd_checkpoints_are_those_of_the_paper_for_100_steps():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_square_sides_follow_the_schedule_of_the_paper():
    attack = Square(num_queries=10_000, p_init=0.8)
    sides = [attack.side(query, 32, 32) for query in (1, 10, 11, 51, 201, 501, 8001)]
    shares = [0.8, 0.8, 0.4, 0.2, 0.1, 0.05, 0.8 / 512]
    assert sides == [max(1, round((share * 1024) ** 0.5)) for share in shares]
    assert Square(num_queries=100).side(100, 32, 32) == Square(num_queries=10_000).side(
        10_000, 32, 32
    )


def test_bump_is_highest_in_the_middle_and_has_length_one():
    mound = bump(5, 5, torch.zeros(1))
    assert mound.norm().item() == pytest.approx(1)
    assert mound.argmax().item() == 12
    # rings at distance 0, 1, 2 collect 1 + 1/4 + 1/9, 1/4 + 1/9 and 1/9
    ratios = mound[2] / mound[2, 0]
    torch.testing.assert_close(ratios, tensor([1.0, 3.25, 12.25, 3.25, 1.0]))
