"""Twin representation: factors, their decay, one pruning, plain weights at the end."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.state import SparseState
from wiry.sparsify.plan import plan
from wiry.sparsify.twin import Twin, factors_of


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 4))


def prepared(method, *, total_steps, mask=None):
    model = network()
    state = SparseState(mask or Mask(), total_steps=total_steps)
    state.mask.apply_(model)
    method.setup(model, state)
    return model, state


def steps(method, model, state, num, *, lr=0.05):
    """Take steps of plain SGD as the loop does; return the number of weights kept after each."""
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=lr)
    total, kept = sum(p.numel() for p in prunable(model).values()), []
    for _ in range(num):
        generator = torch.Generator().manual_seed(state.step)
        x = torch.rand(16, 20, generator=generator)
        y = torch.randint(4, (16,), generator=generator)
        method.before_forward(model, state)
        optimizer.zero_grad()
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
        kept.append(state.mask.num_kept() if state.mask else total)
    return kept


def test_factors_multiply_to_the_weights_and_have_one_size():
    weight = tensor([[3.0, -4.0], [0.0, 5.0]])
    first, second = factors_of(weight)
    size = 12.5**0.25  # root of the root mean square
    torch.testing.assert_close(second, torch.full((2, 2), size))
    torch.testing.assert_close(first * second, weight)
    assert float(first.square().mean()) == pytest.approx(float(second.square().mean()))
    first, second = factors_of(torch.zeros(2, 2))
    assert not first.any() and second.eq(1).all()


def test_gradients_reach_both_factors_with_decay():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = tensor([[1.0, -1.0]])  # rms 1, so first = weight and second = 1
    method, state = Twin(sparsity=0.5, prune_at=0.5, factor_decay=0.25), SparseState(total_steps=4)
    method.setup(model, state)
    method.before_forward(model, state)
    model(tensor([[3.0, 5.0]])).sum().backward()
    method.after_backward(model, state)
    first, second = state.tensors["first/weight"], state.tensors["second/weight"]
    assert first.grad is not None and first.grad.tolist() == [[3.25, 4.75]]
    assert second.grad is not None and second.grad.tolist() == [[3.25, -4.75]]
    assert model.weight.grad is None
    with torch.no_grad():
        first -= 1.0
        second += 1.0
    method.after_step(model, state)
    assert model.weight.tolist() == [[0.0, -4.0]]


def test_only_the_decay_of_factors_makes_unused_weights_fade_at_an_even_pace():
    """Decay d of two factors takes 2 d of their product off each step, whatever the optimizer."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = tensor([[2.0, -2.0]])
    method, state = Twin(sparsity=0.5, prune_at=0.9, factor_decay=0.1), SparseState(total_steps=9)
    method.setup(model, state)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=1.0)
    method.before_forward(model, state)
    (model(torch.zeros(1, 2)).sum()).backward()
    method.after_backward(model, state)
    optimizer.step()
    method.after_step(model, state)
    assert model.weight.tolist()[0] == pytest.approx([2 * 0.81, -2 * 0.81])


def test_the_smallest_products_are_pruned_once_and_on_time():
    method = Twin(sparsity=0.7, prune_at=0.3)
    model, state = prepared(method, total_steps=10)
    total = 20 * 12 + 12 * 4
    steps(method, model, state, 2)
    assert not state.mask
    before = {n: p.detach().clone() for n, p in prunable(model).items()}
    kept = steps(method, model, state, 1)
    mask, target = state.mask, total - round(0.7 * total)
    assert kept == [target]
    largest_gone = max(float(p.detach()[~mask[n]].abs().max()) for n, p in prunable(model).items())
    assert largest_gone == 0.0
    products = {
        n: (state.tensors[f"first/{n}"] * state.tensors[f"second/{n}"]).detach().abs()
        for n in before
    }
    weakest_kept = min(float(products[n][mask[n]].min()) for n in mask)
    strongest_gone = max(float(products[n][~mask[n]].max()) for n in mask)
    assert strongest_gone <= weakest_kept
    steps(method, model, state, 7)
    assert state.mask is mask
    for name, kept_here in method.finish(model, state).items():
        weight = model.get_parameter(name).detach()
        assert not weight[~kept_here].any() and weight[kept_here].all()


@pytest.mark.parametrize("num", [0, 1, 3, 20])
def test_the_budget_is_exact_after_any_number_of_steps(num):
    method = Twin(sparsity=0.77)
    model, state = prepared(method, total_steps=num)
    steps(method, model, state, num)
    total = 20 * 12 + 12 * 4
    assert method.finish(model, state).num_kept() == total - round(0.77 * total)


def test_a_weight_may_change_its_sign():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = tensor([[0.5, -2.0]])
    method, state = Twin(sparsity=0.0, factor_decay=0.0), SparseState(total_steps=50)
    method.setup(model, state)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=0.1)
    for _ in range(50):
        method.before_forward(model, state)
        optimizer.zero_grad()
        model.zero_grad()
        (model(tensor([[1.0, 0.0]])) + 1).square().sum().backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
    assert model.weight.tolist()[0] == pytest.approx([-1.0, -2.0], abs=1e-3)


def test_the_start_mask_stays_pruned():
    alive = Mask({"0.weight": torch.rand(12, 20, generator=torch.Generator().manual_seed(0)) < 0.5})
    method = Twin(sparsity=0.6, prune_at=0.5)
    model, state = prepared(method, total_steps=6, mask=alive)
    steps(method, model, state, 2)
    assert not model[0].weight.detach()[~alive["0.weight"]].any()
    steps(method, model, state, 4)
    assert not bool((state.mask["0.weight"] & ~alive["0.weight"]).any())


def test_a_state_taken_up_again_goes_on_bit_for_bit():
    method = Twin(sparsity=0.6, prune_at=0.5)
    model, state = prepared(method, total_steps=8)
    steps(method, model, state, 3)
    fresh, again = prepared(method, total_steps=8)
    leaves = method.trainable(fresh, again)
    fresh.load_state_dict(model.state_dict())
    again.load_state_dict(state.state_dict())
    assert all(leaf is leaves[n] for n, leaf in method.trainable(fresh, again).items())
    steps(method, model, state, 5)
    steps(method, fresh, again, 5)
    assert again.mask.equal(state.mask)
    assert all(torch.equal(p, fresh.get_parameter(n)) for n, p in model.named_parameters())


def test_twin_is_one_stage_from_scratch_that_leaves_the_decay_to_an_optimizer_that_has_one():
    (stage,) = plan("twin", [0.25], Stage(name="dense", epochs=3), 2)
    assert stage.epochs == 5 and stage.start.weights == "init"
    assert stage.sparsifier == {"name": "twin", "sparsity": 0.75}
    decaying = Stage.model_validate({"name": "dense", "optimizer": "sgd"})
    (stage,) = plan("twin", [0.25], decaying, 2)
    assert stage.sparsifier == {"name": "twin", "sparsity": 0.75, "factor_decay": 0.0}


@pytest.mark.parametrize("fields", [{"sparsity": -0.1}, {"prune_at": 1.0}, {"factor_decay": -1.0}])
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Twin(**fields)
