"""HARP: shares, penalty, budget and schedule with the answers written out."""

import math

import pytest
import torch
from torch import nn, tensor

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.state import SparseState
from wiry.sparsify.harp import Harp
from wiry.sparsify.plan import plan


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(30, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 5))


def prepared(method, *, total_steps=20, mask=None):
    model = network()
    generator = torch.Generator().manual_seed(3)
    state = SparseState(mask or Mask(), total_steps=total_steps, generator=generator)
    method.setup(model, state)
    return model, state


def steps(method, model, state, num, *, lr=0.05):
    """Take steps of plain SGD as the loop does; return the number of weights kept after each."""
    optimizer, kept = torch.optim.SGD(method.trainable(model, state).values(), lr=lr), []
    for _ in range(num):
        generator = torch.Generator().manual_seed(state.step)
        x = torch.rand(16, 30, generator=generator)
        y = torch.randint(5, (16,), generator=generator)
        method.before_forward(model, state)
        optimizer.zero_grad()
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
        kept.append(state.mask.num_kept())
    return kept


def test_shares_lie_between_the_floor_and_one_and_start_at_the_density():
    method = Harp(sparsity=0.8, floor=0.1)
    _, state = prepared(method)
    assert method.shares(state).tolist() == pytest.approx([0.2, 0.2])
    with torch.no_grad():
        state.tensors["rates"].copy_(tensor([-50.0, 50.0]))
    assert method.shares(state).tolist() == pytest.approx([0.02, 1.0])
    with torch.no_grad():
        state.tensors["rates"].zero_()
    assert method.shares(state).tolist() == pytest.approx([0.51, 0.51])  # 0.02 + 0.98 / 2


def test_layers_may_start_above_the_target():
    method = Harp(sparsity=0.99, start_density=0.1)
    model, state = prepared(method)
    method.before_forward(model, state)
    assert [int(mask.sum()) for mask in state.mask.values()] == [60, 10]  # of 600 and 100


def test_the_overshoot_is_relative_to_the_budget_and_never_negative():
    method = Harp(sparsity=0.8)
    _, state = prepared(method)
    with torch.no_grad():
        state.tensors["rates"].zero_()
    assert float(method.overshoot(state).detach()) == pytest.approx(0.51 / 0.2 - 1)
    with torch.no_grad():
        state.tensors["rates"].fill_(-50.0)
    assert float(method.overshoot(state).detach()) == 0.0


def test_the_gradient_of_the_logits_is_that_of_mask_plus_penalty():
    """Written out by the chain rule: g = sum(dL/dw * w_0) + gamma * n_l / (n k), times d share."""
    method = Harp(sparsity=0.8, gamma=2.0)
    model, state = prepared(method)
    with torch.no_grad():
        state.tensors["rates"].copy_(tensor([0.3, -0.4]))
    method.before_forward(model, state)
    x = torch.rand(8, 30, generator=torch.Generator().manual_seed(1))
    model(x).square().sum().backward()
    by_mask = [
        float((p.grad * state.tensors[f"weight/{name}"]).sum())
        for name, p in prunable(model).items()
    ]
    method.after_backward(model, state)
    gamma = 2.0 / 20  # the first of twenty levels
    expected = []
    for rate, part, size in zip([0.3, -0.4], by_mask, [600, 100], strict=True):
        slope = 0.98 * torch.sigmoid(tensor(rate)) * torch.sigmoid(tensor(-rate))
        expected.append(float(slope) * (part + gamma * size / 700 / 0.2))
    assert state.tensors["rates"].grad is not None
    assert state.tensors["rates"].grad.tolist() == pytest.approx(expected, rel=1e-4)


def test_gamma_rises_in_twenty_equal_parts_and_freezes_once_the_budget_is_met():
    method = Harp(sparsity=0.8, gamma=0.2)
    model, state = prepared(method, total_steps=40)
    with torch.no_grad():
        state.tensors["rates"].zero_()  # far above the budget
    seen = []
    for _ in range(6):
        seen.append(method.penalty_weight(state))
        steps(method, model, state, 1, lr=1e-6)
    assert seen == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.03, 0.03])
    with torch.no_grad():
        state.tensors["rates"].fill_(-5.0)
    for _ in range(6):
        steps(method, model, state, 1, lr=1e-6)
        assert method.penalty_weight(state) == pytest.approx(0.04)
    assert float(state.tensors["frozen_gamma"]) == pytest.approx(0.04)


def test_a_strong_penalty_brings_the_network_to_the_budget():
    method = Harp(sparsity=0.9, gamma=20.0, start_density=0.5)
    model, state = prepared(method, total_steps=60)
    kept = steps(method, model, state, 60)
    assert kept[0] > 300 and kept[-1] == 70
    assert kept[-2] < 100, "the last step had to cut what the penalty should have"


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("num", [1, 3, 20])
def test_the_last_step_and_finish_keep_exactly_the_budget(sparsity, num):
    method = Harp(sparsity=sparsity)
    model, state = prepared(method, total_steps=num)
    kept = steps(method, model, state, num, lr=1.0)
    assert kept[-1] == 700 - round(sparsity * 700)
    mask = method.finish(model, state)
    assert mask.num_kept() == kept[-1]
    assert all(not model.get_parameter(n).detach()[~value].any() for n, value in mask.items())


def test_learned_shares_decide_how_the_exact_budget_is_split():
    method = Harp(sparsity=0.8)
    model, state = prepared(method, total_steps=0)
    share = [0.1, 0.5]
    with torch.no_grad():
        logits = [math.log((s - 0.02) / 0.98 / (1 - (s - 0.02) / 0.98)) for s in share]
        state.tensors["rates"].copy_(tensor(logits))
    mask = method.finish(model, state)
    # 60 + 50 wanted, 140 to keep: 76.36 and 63.64, the largest remainder rounds up
    assert [int(value.sum()) for value in mask.values()] == [76, 64]


def test_shares_move_on_the_loss_alone_and_differ_between_layers():
    method = Harp(sparsity=0.5, gamma=0.0)
    model, state = prepared(method)
    steps(method, model, state, 20, lr=0.5)
    first, second = method.shares(state).tolist()
    assert abs(first - 0.5) > 1e-3 and abs(second - 0.5) > 1e-3 and abs(first - second) > 1e-3


def test_a_search_stays_inside_the_start_mask():
    alive = Mask({"0.weight": torch.rand(20, 30, generator=torch.Generator().manual_seed(0)) < 0.3})
    method = Harp(sparsity=0.77)
    model, state = prepared(method, total_steps=5, mask=alive)
    alive.apply_(model)
    assert steps(method, model, state, 5, lr=0.5)[-1] == 161
    assert not bool((state.mask["0.weight"] & ~alive["0.weight"]).any())


def test_a_state_taken_up_again_goes_on_bit_for_bit():
    method = Harp(sparsity=0.8, gamma=1.0, start_density=0.4)
    model, state = prepared(method, total_steps=10)
    steps(method, model, state, 5)
    fresh, again = prepared(method, total_steps=10)
    fresh.load_state_dict(model.state_dict())
    again.load_state_dict(state.state_dict())
    assert steps(method, model, state, 5) == steps(method, fresh, again, 5)
    assert torch.equal(state.tensors["rates"], again.tensors["rates"])
    assert all(torch.equal(p, fresh.get_parameter(n)) for n, p in model.named_parameters())


def test_harp_is_dense_search_and_finetune():
    stages = plan("harp", [0.25], Stage(name="dense"), 5)
    assert [s.name for s in stages] == ["dense", "harp-search-0.25", "harp-0.25"]
    assert [s.epochs for s in stages[1:]] == [1, 4]
    assert stages[1].sparsifier == {"name": "harp", "sparsity": 0.75}


@pytest.mark.parametrize(
    "fields", [{"sparsity": 1.0}, {"floor": -0.1}, {"gamma": -1.0}, {"start_density": 0.0}]
)
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Harp(**fields)
