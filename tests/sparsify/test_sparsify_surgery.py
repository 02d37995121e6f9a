"""Dynamic network surgery: splicing, hysteresis, the solved threshold and its fading updates."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.mask import Mask, num_alive
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.plan import plan
from wiry.sparsify.surgery import Surgery, splice_scores


def begin(weights, *, total_steps=100, **fields):
    """Return a layer with one row of weights, the method and its state after set-up."""
    model = nn.Linear(len(weights), 1, bias=False)
    model.weight.data = tensor([weights])
    state = SparseState(total_steps=total_steps, generator=torch.Generator().manual_seed(0))
    method = Surgery(**fields)
    method.setup(model, state)
    method.before_forward(model, state)
    return model, method, state


def whole(state):
    return state.tensors["whole/weight"]


def test_a_masked_weight_returns_only_when_it_is_clearly_larger():
    model, method, state = begin([5.0, 1.0, 0.5], sparsity=1 / 3, power=0.0)
    assert state.mask["weight"].tolist() == [[True, True, False]]
    for size, expected in ((1.2, [True, True, False]), (1.3, [True, False, True])):
        whole(state).data[0, 2] = -size  # 1.1 / 0.9 = 1.22 times the weight it would replace
        method.after_step(model, state)
        assert state.mask["weight"].tolist() == [expected]
    assert model.weight.tolist() == [[5.0, 0.0, -tensor(1.3).item()]]
    whole(state).data[0, 1] = 1.5  # the advantage is now on the other side
    method.after_step(model, state)
    assert state.mask["weight"].tolist() == [[True, False, True]]


def test_the_solved_threshold_obeys_the_published_rule():
    generator = torch.Generator().manual_seed(3)
    model, method, state = begin(torch.randn(400, generator=generator).tolist(), sparsity=0.8)
    before = state.mask["weight"].clone()
    whole(state).data.add_(torch.randn(1, 400, generator=generator), alpha=0.5)
    method.after_step(model, state)
    after, size = state.mask["weight"], whole(state).detach().abs()
    threshold = splice_scores(size, before, 0.1)[after].min() * (1 - 1e-6)
    assert torch.equal(after[before], size[before] > 0.9 * threshold)
    assert torch.equal(after[~before], size[~before] > 1.1 * threshold)
    assert not torch.equal(after, before) and int(after.sum()) == 80


def test_the_update_reaches_masked_weights_with_the_gradient_of_the_masked_network():
    model, method, state = begin([4.0, 3.0, 0.1, -0.2], sparsity=0.5)
    assert method.trainable(model, state) == {"weight": whole(state)}
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=1.0)
    x = tensor([[1.0, 2.0, 3.0, 4.0]])
    (model(x).square() / 2).sum().backward()  # output 10 without the masked weights
    method.after_backward(model, state)
    optimizer.step()
    method.after_step(model, state)
    assert torch.allclose(whole(state), tensor([[4.0 - 10, 3.0 - 20, 0.1 - 30, -0.2 - 40]]))
    assert state.mask["weight"].tolist() == [[False, False, True, True]]
    assert torch.equal(model.weight.detach(), whole(state).detach() * state.mask["weight"])


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
def test_the_sparsity_is_exact_at_every_step_and_fixed_after_the_end(allocation):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    state = SparseState(total_steps=60, generator=torch.Generator().manual_seed(0))
    method = Surgery(sparsity=0.83, allocation=allocation)
    method.setup(model, state)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=0.5)
    returned, late = 0, 0
    for step in range(60):
        before = state.mask
        method.before_forward(model, state)
        optimizer.zero_grad()
        x, y = (torch.randn(8, n, generator=state.generator) for n in (20, 4))
        (model(x) - y).square().mean().backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
        assert num_alive(model, state.mask) == 720 - round(0.83 * 720)
        returned += sum(int((m & ~before[n]).sum()) for n, m in state.mask.items())
        late += step >= 45 and not state.mask.equal(before)
    assert returned > 0, "weights are spliced back"
    assert late == 0


def test_updates_fade_as_published():
    _, method, state = begin([1.0, 2.0], total_steps=4000, gamma=1.4, end=0.75)
    updates = []
    for step in range(4000):
        state.step = step
        updates.append(method._is_update(state))
    first, last = sum(updates[:300]) / 300, sum(updates[2700:3000]) / 300
    assert first == pytest.approx(1 / (1 + 1.4 * 0.05), abs=0.05)
    assert last == pytest.approx(1 / (1 + 1.4 * 0.95), abs=0.1)
    assert not any(updates[3000:])


def test_the_optimizer_keeps_hold_of_the_weights_when_a_state_is_loaded():
    model, method, state = begin([3.0, 2.0, 1.0], sparsity=1 / 3)
    trained = method.trainable(model, state)["weight"]
    saved = state.state_dict()
    saved["tensors"] = {n: v + 1 for n, v in saved["tensors"].items()}
    state.load_state_dict(saved)
    assert whole(state) is trained and trained.tolist() == [[4.0, 3.0, 2.0]]


def test_a_start_mask_limits_the_first_cut():
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = tensor([[1.0, 2.0, 9.0]])
    state = SparseState(Mask({"weight": tensor([[True, True, False]])}), total_steps=4)
    Surgery(sparsity=2 / 3).setup(model, state)
    assert state.mask["weight"].tolist() == [[False, True, False]]


def test_surgery_follows_dense_training():
    dense, surgery = plan("surgery", [0.25], Stage(name="dense"), 4)
    assert (dense.name, surgery.start.weights, surgery.epochs) == ("dense", "dense", 4)
    assert surgery.sparsifier == {"name": "surgery", "sparsity": 0.75}


def test_wrong_settings_are_refused():
    for fields in ({"hysteresis": 1.0}, {"gamma": -1.0}, {"end": 0.0}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            Surgery(**fields)
    assert registry("sparsifier").normalize("surgery") == {"name": "surgery"}
