"""Bayesian connectivity: strict budget, signs for life, who is dropped, sampled and kept."""

import pytest
import torch
from torch import nn

from wiry.core.mask import Mask, num_alive
from wiry.core.recipe import Stage
from wiry.core.state import SparseState
from wiry.sparsify.bayesian_connectivity import NEWBORN, BayesianConnectivity, published_curve
from wiry.sparsify.plan import plan


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4)
    )


def begin(model, *, total_steps=60, **fields):
    """Return the method and its state after set-up, the start mask applied."""
    method = BayesianConnectivity(**fields)
    state = SparseState(total_steps=total_steps, generator=torch.Generator().manual_seed(1))
    method.setup(model, state)
    state.mask.apply_(model)
    return method, state


def one_layer(weights, mask, **fields):
    """Return a layer of a given row of weights with a given mask, method and state."""
    model = nn.Linear(len(weights), 1, bias=False)
    model.weight.data = torch.tensor([weights])
    state = SparseState(
        Mask({"weight": torch.tensor([mask])}),
        total_steps=8,
        generator=torch.Generator().manual_seed(0),
    )
    method = BayesianConnectivity(**{"sparsity": 0.0, "noise": 0.0, "decay": 0.0} | fields)
    return model, method, state


def train(model, method, state, steps, *, observe, lr=1.0):
    """Train on random labels, which change at every step, and observe after each."""
    generator = torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=lr, momentum=0.9)
    for _ in range(steps):
        x = torch.randn(16, 20, generator=generator)
        y = torch.randint(4, (16,), generator=generator)
        method.before_forward(model, state)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        before = state.mask
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        observe(before)
        state.step += 1


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_budget_is_exact_after_every_step_and_signs_never_change(scope):
    model = network()
    method, state = begin(model, sparsity=0.9, scope=scope, decay=0.01)
    budget = 5632 - round(0.9 * 5632)
    signs = {n: v.clone() for n, v in state.tensors.items() if n.startswith("sign/")}
    assert num_alive(model, state.mask) == budget
    layers, num_moved = {n: int(m.sum()) for n, m in state.mask.items()}, 0

    def observe(before):
        nonlocal num_moved
        assert num_alive(model, state.mask) == budget
        for name, mask in state.mask.items():
            weight = model.get_parameter(name).detach()
            assert torch.equal(weight.sign(), signs[f"sign/{name}"] * mask)
            num_moved += int((before[name] & ~mask).sum())
            if scope == "layerwise":
                assert int(mask.sum()) == layers[name]

    train(model, method, state, 60, observe=observe)
    assert all(torch.equal(state.tensors[n], v) for n, v in signs.items())
    assert num_moved > 100, "links do move"
    assert int(state.tensors["num_sampled"]) >= num_moved
    if scope == "global":
        assert {n: int(m.sum()) for n, m in state.mask.items()} != layers, "shares drift"


def test_about_half_of_the_new_links_survive_their_first_step():
    model = network()
    method, state = begin(model, sparsity=0.9, total_steps=600)
    newborn: dict[str, torch.Tensor] = {}
    survived, born = 0, 0

    def observe(_):
        nonlocal survived, born
        for name, mask in state.mask.items():
            weight = model.get_parameter(name).detach().abs()
            if name in newborn:
                places = newborn[name]
                survived += int((weight[places] > 10 * NEWBORN).sum())
                born += int(places.sum())
            newborn[name] = mask & (weight < 2 * NEWBORN)

    train(model, method, state, 300, observe=observe)
    assert born > 1000
    assert survived / born == pytest.approx(0.5, abs=0.06)


def test_a_link_that_changes_sign_is_replaced_by_an_absent_one():
    model, method, state = one_layer([0.5, -0.5, 0.0], [True, True, False])
    method = BayesianConnectivity(sparsity=1 / 3, noise=0.0, decay=0.0)
    method.setup(model, state)
    model.weight.data[0, 1] = 0.25  # a step over zero
    state.generator.manual_seed(4)
    method.after_step(model, state)
    sign = state.tensors["sign/weight"][0]
    assert sign[:2].tolist() == [1, -1]
    kept = state.mask["weight"][0].tolist()
    assert kept in ([True, True, False], [True, False, True]) and int(state.mask.num_kept()) == 2
    place = kept.index(True, 1)
    assert model.weight[0, 0] == 0.5
    assert model.weight[0, place].item() == pytest.approx(NEWBORN * int(sign[place]), rel=1e-6)


def test_where_nothing_dies_nothing_is_drawn():
    model, method, state = one_layer([0.5, -0.5, 0.0, 0.0], [True, True, False, False])
    method.setup(model, state)
    model.weight.data[0, 3] = 0.3  # left-over momentum moves an absent weight
    drawn, mask = state.generator.get_state(), state.mask["weight"]
    method.after_step(model, state)
    assert torch.equal(state.generator.get_state(), drawn)
    assert state.mask["weight"] is mask
    assert model.weight.tolist() == [[0.5, -0.5, 0.0, 0.0]]


def test_noise_reaches_active_links_only_and_falls_tenfold_twice():
    for step, deviation in ((0, 0.01), (4, 0.001), (6, 0.0001)):
        half = [True] * 5000 + [False] * 5000
        model, method, state = one_layer([1.0] * 5000 + [0.0] * 5000, half, noise=0.01)
        method.setup(model, state)
        state.step = step
        method.after_step(model, state)
        assert model.weight[0, :5000].std().item() == pytest.approx(deviation, rel=0.05)
        assert not model.weight[0, 5000:].any()


def test_temperature_and_prior_are_those_of_deep_rewiring():
    model, method, state = one_layer(
        [1.0, -1.0] * 5000, [True] * 10000, l1=0.25, temperature=0.0002
    )
    method.setup(model, state)
    method.after_step(model, state)
    strengths = model.weight.detach() * torch.tensor([1.0, -1.0]).repeat(5000)
    assert strengths.mean().item() == pytest.approx(0.75, abs=0.001)
    assert strengths.std().item() == pytest.approx(0.02, rel=0.05)  # square root of 2 x 0.0002


def test_decay_shrinks_all_parameters_as_much_as_published():
    model, method, state = one_layer([1.0, -2.0], [True, True], decay=0.1)
    method.setup(model, state)
    model.weight.grad = torch.zeros_like(model.weight)
    for step, share in ((0, 0.9), (4, 0.99), (6, 0.999)):
        before = model.weight.detach().clone()
        state.step = step
        method.after_backward(model, state)
        assert torch.allclose(model.weight.detach(), share * before)
    assert [published_curve(p) for p in (0.0, 0.49, 0.5, 0.75)] == pytest.approx([1, 1, 0.1, 0.01])


def test_a_denser_start_mask_is_thinned_and_a_sparser_one_kept():
    dense, sparse = torch.arange(100) < 50, torch.arange(100) < 5
    for start, expected in ((dense, 10), (sparse, 5)):
        model, _, state = one_layer([1.0] * 100, start.tolist())
        BayesianConnectivity(sparsity=0.9).setup(model, state)
        assert state.mask.num_kept() == expected
        assert not (state.mask["weight"][0] & ~start).any()


def test_wrong_settings_are_refused_with_a_hint():
    for fields in ({"sparsity": 90.0}, {"noise": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            BayesianConnectivity(**fields)


def test_the_method_is_one_stage_and_takes_the_decay_from_the_optimizer():
    dense = Stage(name="dense", epochs=3, optimizer={"name": "sgd", "lr": 0.05})
    (stage,) = plan("bayesian-connectivity", [0.1], dense, 2)
    assert stage.optimizer == {"name": "sgd", "lr": 0.05, "weight_decay": 0.0}
    assert stage.epochs == 5
    (stage,) = plan("bayesian-connectivity", [0.1], Stage(name="dense", optimizer="adam"), 2)
    assert stage.optimizer == {"name": "adam"}
