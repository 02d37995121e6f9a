"""Drop and grow with the answer written out, and the budget over a whole stage."""

import pytest
import torch
from tests.train.tiny import tiny_recipe
from torch import nn, tensor

from wiry.core.mask import density, num_alive, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.plan import plan
from wiry.sparsify.rewire import drop_and_grow, move_links
from wiry.train.stages import load_stage, train


def test_rigl_keeps_the_number_of_active_weights():
    mask = tensor([1, 1, 0, 0]).bool()
    new = drop_and_grow(mask, tensor([5.0, 1.0, 0.0, 0.0]), tensor([0.0, 0.0, 2.0, 9.0]), 0.5)
    assert new.tolist() == [True, False, False, True]


def test_a_link_that_is_dropped_is_not_grown_in_the_same_update():
    mask = tensor([1, 1, 0]).bool()
    new = drop_and_grow(mask, tensor([5.0, 1.0, 0.0]), tensor([9.0, 9.0, 0.1]), 0.5)
    assert new.tolist() == [True, False, True]


def test_a_full_layer_has_nothing_to_move():
    mask = torch.ones(3).bool()
    assert drop_and_grow(mask, tensor([1.0, 2.0, 3.0]), torch.rand(3), 0.9).all()


def test_more_links_may_be_dropped_than_grown():
    mask = tensor([1, 1, 1, 0, 0]).bool()
    weight, score = tensor([3.0, 1.0, 2.0, 0.0, 0.0]), tensor([9.0, 9.0, 9.0, 1.0, 2.0])
    assert move_links(mask, weight, score, 2, 1).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("name", ["set", "rigl", "flying-bird", "bayesian-connectivity"])
def test_a_method_without_a_dense_network_takes_the_epochs_that_others_take_together(name):
    (stage,) = plan(name, [0.5, 0.25], Stage(name="dense", epochs=7), 5)
    assert stage.epochs == 12
    assert stage.sparsifier["sparsity"] == 0.75
    assert stage.start.weights == "init"


@pytest.mark.parametrize("name", ["set", "rigl"])
def test_the_budget_holds_at_every_step_and_links_do_move(name):
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    state = SparseState(total_steps=40, generator=torch.Generator().manual_seed(0))
    method = registry("sparsifier").build({"name": name, "sparsity": 0.75, "num_updates": 10})
    method.setup(model, state)
    first, moved = state.mask, 0
    for _ in range(40):
        state.mask.apply_(model)
        model(torch.randn(8, 20, generator=state.generator)).square().sum().backward()
        before = state.mask
        method.after_backward(model, state)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.01)
        method.after_step(model, state)
        state.step += 1
        assert density(model, state.mask) == 0.25
        for layer, mask in state.mask.items():
            assert not model.get_parameter(layer).detach()[~mask].any()
        moved += not state.mask.equal(before)
    assert moved == 9  # the tenth update moves a share of zero
    assert not state.mask.equal(first)
    assert not state.tensors, "nothing is left over between updates"


@pytest.mark.parametrize("method", ["set", "rigl", "flying-bird", "bayesian-connectivity"])
def test_links_move_on_from_a_network_with_removed_channels(method, tmp_path):
    stages = [
        {"name": "narrow", "epochs": 0, "sparsifier": {"name": "filter", "sparsity": 0.5}},
        {
            "name": "rewired",
            "epochs": 2,
            "start": {"weights": "narrow", "mask": "narrow"},
            "sparsifier": {"name": method, "sparsity": 0.7},
        },
    ]
    run = train(tiny_recipe(stages=stages, model="cnn-small"), tmp_path)
    model, mask = load_stage(run, "rewired")
    total = sum(p.numel() for p in prunable(model).values())
    assert num_alive(model, mask) == total - round(0.7 * total)
