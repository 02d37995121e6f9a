"""ADMM on problems whose best sparse solution is known."""

import itertools

import pytest
import torch
from torch import nn, tensor

from wiry.core.errors import UserError
from wiry.core.recipe import Recipe, Stage, expand
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.admm import Admm
from wiry.sparsify.magnitude import Magnitude
from wiry.sparsify.plan import plan

TARGET = tensor([[1.0, 2.0, -1.5, 0.3, 2.5, -0.4]])
CURVATURE = tensor([[9.0, 0.4, 6.0, 8.0, 0.3, 1.0]])


def loss_of(weight):
    """A quadratic whose flattest directions have the largest solutions."""
    return (CURVATURE * (weight - TARGET).square()).sum() / 2


def network():
    model = nn.Sequential(nn.Linear(6, 1, bias=False))
    model[0].weight.data = TARGET.clone()  # the dense solution
    return model


def train(method, model, num_steps=600, lr=0.1):
    state = SparseState(total_steps=num_steps)
    method.setup(model, state)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=lr)
    for _ in range(num_steps):
        method.before_forward(model, state)
        optimizer.zero_grad()
        loss_of(model[0].weight).backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
    return method.finish(model, state), state


def best_support(num_keep):
    """The best choice of weights, by looking at all; the others are zero, these at their target."""

    def cost(support):
        weight = torch.zeros_like(TARGET)
        weight[0, list(support)] = TARGET[0, list(support)]
        return float(loss_of(weight))

    return min(itertools.combinations(range(6), num_keep), key=cost)


@pytest.mark.parametrize("num_keep", [1, 2, 3, 4])
def test_admm_finds_the_best_sparse_solution_of_a_quadratic(num_keep):
    best = best_support(num_keep)
    model = network()
    method = Admm(sparsity=1 - num_keep / 6, rho=0.3, growth=1.1, num_updates=30)
    mask, _ = train(method, model)
    assert tuple(mask["0.weight"][0].nonzero().flatten().tolist()) == best
    assert torch.allclose(model[0].weight, TARGET * mask["0.weight"], atol=0.2)


def test_magnitude_pruning_does_not_find_it():
    model, state = network(), SparseState()
    Magnitude(sparsity=0.5).setup(model, state)
    assert tuple(state.mask["0.weight"][0].nonzero().flatten().tolist()) != best_support(3)


def test_one_round_of_updates_written_out():
    model, state = network(), SparseState(total_steps=4)
    model[0].weight.data = tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    method = Admm(sparsity=0.5, num_updates=2, rho=0.1, growth=1.5)
    method.before_forward(model, state)
    assert state.tensors["z/0.weight"].tolist() == [[0, 0, 0, 4, 5, 6]]
    assert not state.tensors["u/0.weight"].any() and float(state.tensors["rho"]) == 0.1
    model[0].weight.grad = torch.zeros(1, 6)
    method.after_backward(model, state)  # rho (W - Z + U)
    assert torch.allclose(model[0].weight.grad, tensor([[0.1, 0.2, 0.3, 0, 0, 0]]))
    method.after_step(model, state)
    assert not state.tensors["u/0.weight"].any()  # the first update is due after two steps
    state.step = 1
    method.after_step(model, state)
    assert state.tensors["u/0.weight"].tolist() == [[1, 2, 3, 0, 0, 0]]
    assert float(state.tensors["rho"]) == pytest.approx(0.15)
    model[0].weight.grad = torch.zeros(1, 6)
    method.after_backward(model, state)
    assert torch.allclose(model[0].weight.grad, 0.15 * tensor([[2.0, 4, 6, 0, 0, 0]]))


def test_copies_and_duals_are_saved_and_the_weights_stay_dense_until_the_end():
    model = network()
    method = Admm(sparsity=0.5, num_updates=3)
    mask, state = train(method, model, num_steps=7)
    saved = state.state_dict()["tensors"]
    assert set(saved) == {"rho", "u/0.weight", "z/0.weight"}
    assert int(mask["0.weight"].sum()) == 3
    again, unfinished = network(), SparseState(total_steps=100)
    for _ in range(20):
        method.before_forward(again, unfinished)
        loss_of(again[0].weight).backward()
        method.after_backward(again, unfinished)
        method.after_step(again, unfinished)
        unfinished.step += 1
    assert not unfinished.mask and bool(again[0].weight.all())


def test_rho_does_not_grow_beyond_one():
    _, state = train(Admm(sparsity=0.5, num_updates=20, rho=0.5, growth=2.0), network(), 40)
    assert float(state.tensors["rho"]) == 1.0


@pytest.mark.parametrize(
    ("structure", "expected"),
    [("column", [[0, 1, 1]] * 3), ("filter-rows", [[0] * 3, [0] * 3, [1] * 3])],
)
def test_columns_and_filters_are_chosen_by_their_sum_of_squares(structure, expected):
    """Sums of absolute values would choose the first column and the first row."""
    model, state = nn.Sequential(nn.Linear(3, 3, bias=False)), SparseState()
    model[0].weight.data = tensor([[2.0, 2.0, 2.0], [2.0, 0.0, 0.0], [2.0, 4.0, -3.5]])
    model[0].weight.data[1] = tensor([2.0, 0.0, 1.0])
    sparsity = 1 - sum(map(sum, expected)) / 9
    mask = Admm(sparsity=sparsity, structure=structure).finish(model, state)
    assert mask["0.weight"].int().tolist() == expected


def test_a_wrong_setting_is_refused():
    with pytest.raises(UserError, match="rho must be above 0"):
        registry("sparsifier").build({"name": "admm", "rho": 0.0})
    with pytest.raises(UserError, match="num_updates"):
        registry("sparsifier").build({"name": "admm", "num_updates": 0})


@pytest.mark.parametrize("method", ["admm", "pwoa"])
@pytest.mark.parametrize("epochs", [0, 1, 5, 20])
def test_a_plan_takes_the_same_epochs_as_any_other(method, epochs):
    dense = Stage(name="dense", epochs=7, objective={"name": "trades"})
    first, solve, finetune = plan(method, [0.5, 0.1], dense, epochs)
    assert first == dense and solve.epochs + finetune.epochs == epochs
    assert solve.start.weights == "dense" and solve.sparsifier["name"] == "admm"
    assert finetune.start.weights == finetune.start.mask == solve.name
    assert finetune.sparsifier == {"name": "fixed"} and finetune.name == f"{method}-0.1"
    robust = {"name": "trades"}
    for stage in (solve, finetune):
        assert stage.objective == ({"name": "pwoa"} if method == "pwoa" else robust)
        assert stage.teacher == ("dense" if method == "pwoa" else "")
    recipe = Recipe(
        name="r", data={"name": "digits"}, model={"name": "mlp"}, stages=[first, solve, finetune]
    )
    assert len(expand(recipe)) == 3
