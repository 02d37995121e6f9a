"""Flying Bird and Flying Bird+: which links move, how many, what plus makes of a measurement."""

import pytest
import torch
from tests.sparsify.by_hand import begin, step
from torch import nn

from wiry.core.mask import density, num_alive
from wiry.core.state import SparseState
from wiry.sparsify.flying_bird import FlyingBird, FlyingBirdPlus


def num_grown(before, after):
    return sum(int((after[name] & ~before[name]).sum()) for name in after)


def test_flying_bird_moves_half_of_the_links_at_first_and_few_at_the_end():
    method = FlyingBird(sparsity=0.8, num_updates=70, allocation="layerwise")
    model, state = begin(method, total_steps=700)
    moved = []
    for _ in range(700):
        before = state.mask
        step(method, model, state, shift=0.1)
        assert density(model, state.mask) == 0.2
        if method.is_update_step(SparseState(step=state.step - 1, total_steps=700)):
            moved.append(num_grown(before, state.mask))
        else:
            assert state.mask.equal(before)
    assert len(moved) == 69, "none in the last step"
    # 180 links, the cosine from 0.5 to 0.005, layer by layer (120 and 60) and rounded down
    assert moved[0] == pytest.approx(90, abs=2) and moved[-1] <= 1
    assert moved[39] == pytest.approx(180 * 0.2525, abs=2), "half way at half time"


def test_four_of_seven_updates_fall_into_the_first_half():
    method = FlyingBird(num_updates=70)
    steps = [s for s in range(700) if method.is_update_step(SparseState(step=s, total_steps=700))]
    assert sum(s < 350 for s in steps) == 40 and len(steps) == 69


def test_flying_bird_can_grow_where_the_gradient_is_largest():
    method = FlyingBird(sparsity=0.5, num_updates=2, grow="gradient", allocation="layerwise")
    model = nn.Linear(8, 1, bias=False)
    state = SparseState(total_steps=4, generator=torch.Generator().manual_seed(0), step=1)
    method.setup(model, state)
    wanted = (~state.mask["weight"]).nonzero()[:2]
    model.weight.grad = torch.full((1, 8), 0.1)
    model.weight.grad[tuple(wanted.T)] = -5.0
    before = state.mask
    assert method.is_update_step(state)
    method.after_backward(model, state)
    method.after_step(model, state)
    assert num_grown(before, state.mask) == 1  # int(0.3762 x 4)
    grown = (state.mask["weight"] & ~before["weight"]).nonzero()
    assert grown.tolist() == wanted[:1].tolist(), "the larger gradient; ties to the lower index"


def rows(gaps, losses):
    return [
        {
            "train_robust_accuracy": 0.4 + gap,
            "validation_robust_accuracy": 0.4,
            "validation_robust_loss": loss,
        }
        for gap, loss in zip(gaps, losses, strict=True)
    ]


PLUS = {"sparsity": 0.8, "num_updates": 7, "allocation": "layerwise"}
STEADY, RISING = [0.1] * 5, [0.1, 0.2, 0.3, 0.25, 0.4]


def adapted(gaps, losses, *, at=50):
    """Return the number of links before and after an update at half time that saw these rows."""
    method = FlyingBirdPlus(**PLUS)
    model, state = begin(method, total_steps=100)
    state.step = at
    for row in rows(gaps, losses):
        method.measured(model, state, row)
    return method, model, state


def test_plus_drops_more_when_the_gap_rises():
    method, model, state = adapted(RISING, STEADY)
    share = method.drop_share(state)  # 0.2525 at half time
    extra = round(0.4 * share * 120) + round(0.4 * share * 60)
    method.rewire(model, state)
    assert num_alive(model, state.mask) == 180 - extra
    method.rewire(model, state)
    assert num_alive(model, state.mask) == 180 - extra, "a measurement is used once"


def test_plus_grows_back_when_the_loss_rises_but_not_above_the_budget():
    method, model, state = adapted(RISING, STEADY)
    method.rewire(model, state)
    alive = num_alive(model, state.mask)
    for row in rows(STEADY, RISING):
        method.measured(model, state, row)
    share = method.drop_share(state)
    nums = [int(share * int(m.sum())) for m in state.mask.values()]
    method.rewire(model, state)
    assert num_alive(model, state.mask) == alive + sum(round(0.05 * n) for n in nums) > alive
    for _ in range(40):
        for row in rows(STEADY, RISING):
            method.measured(model, state, row)
        method.rewire(model, state)
        assert num_alive(model, state.mask) <= 180
    assert num_alive(model, state.mask) == 180


@pytest.mark.parametrize(
    ("gaps", "losses", "at"),
    [
        (STEADY, STEADY, 50),
        (RISING, RISING, 49),  # too early
        (RISING[:4], RISING[:4], 50),  # too few
        ([0.1, 0.2, 0.1, 0.2, 0.1], STEADY, 50),  # two of four rise
    ],
)
def test_plus_is_flying_bird_as_long_as_nothing_rises(gaps, losses, at):
    method, model, state = adapted(gaps, losses, at=at)
    method.rewire(model, state)
    assert num_alive(model, state.mask) == 180


def test_plus_takes_clean_accuracies_and_losses_where_no_attack_was_measured():
    method, model, state = adapted([], [])
    for value in RISING:
        row = {"train_accuracy": value, "validation_accuracy": 0.0, "validation_loss": value}
        method.measured(model, state, row)
    assert state.tensors["adapt"].tolist() == [True, True]
    method.measured(model, state, {"train_loss": 1.0})
    assert state.tensors["adapt"].tolist() == [False, False]


def test_plus_leaves_a_link_in_every_layer():
    method = FlyingBirdPlus(sparsity=0.9, extra_drop=100.0, num_updates=50)
    model, state = begin(method, total_steps=100)
    state.step = 50
    for _ in range(5):
        for row in rows(RISING, STEADY):
            method.measured(model, state, row)
        method.rewire(model, state)
        assert all(mask.any() for mask in state.mask.values())
    assert num_alive(model, state.mask) < 10
