"""Sparsifiers on a two-layer network whose masks can be written out."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask, density
from wiry.core.recipe import Stage
from wiry.core.state import SparseState
from wiry.sparsify.gradual import Gradual
from wiry.sparsify.lottery import PruneRate
from wiry.sparsify.magnitude import Magnitude
from wiry.sparsify.plan import method_names, plan


def network():
    model = nn.Sequential(nn.Linear(4, 2, bias=True), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(tensor([[1.0, -8.0, 3.0, 0.1], [-5.0, 2.0, 0.2, 7.0]]))
        model[1].weight.copy_(tensor([[4.0, -6.0]]))
    return model


def test_one_shot_global_keeps_the_largest_magnitudes():
    model, state = network(), SparseState()
    Magnitude(sparsity=0.5).setup(model, state)
    assert state.mask["0.weight"].tolist() == [
        [False, True, False, False],
        [True, False, False, True],
    ]
    assert state.mask["1.weight"].tolist() == [[True, True]]
    assert set(state.mask) == {"0.weight", "1.weight"}  # never the bias


def test_one_shot_layerwise_keeps_the_same_share_everywhere():
    model, state = network(), SparseState()
    Magnitude(sparsity=0.5, allocation="layerwise").setup(model, state)
    assert state.mask["0.weight"].sum() == 4
    assert state.mask["1.weight"].tolist() == [[False, True]]


def test_pruning_further_stays_inside_the_start_mask():
    model, state = network(), SparseState()
    state.mask = Mask({"0.weight": tensor([[1, 0, 1, 1], [0, 1, 1, 0]])})
    Magnitude(sparsity=0.7).setup(model, state)  # 3 of 10 left: 4 and 6 in the head, 3 below
    assert state.mask["0.weight"].tolist() == [[False, False, True, False], [False] * 4]
    assert state.mask["1.weight"].tolist() == [[True, True]]


def test_prune_rate_takes_a_share_of_what_is_alive_layer_by_layer():
    model, state = network(), SparseState()
    PruneRate(rate=0.25, layer_rates={"1.weight": 0.5}).setup(model, state)
    assert state.mask["0.weight"].sum() == 6 and state.mask["1.weight"].sum() == 1
    PruneRate(rate=0.5, layer_rates={"1.weight": 0.0}).setup(model, state)
    assert state.mask["0.weight"].sum() == 3 and state.mask["1.weight"].sum() == 1


def test_prune_rate_names_a_layer_the_model_does_not_have():
    with pytest.raises(UserError, match="hidden"):
        PruneRate(layer_rates={"hidden": 0.1}).setup(network(), SparseState())


def test_the_ladder_of_the_first_paper_has_exact_counts():
    """266,200 weights, 20/20/10 %: the paper's rounds without its extra weight a layer."""
    model = nn.Sequential(
        nn.Linear(784, 300, bias=False),
        nn.Linear(300, 100, bias=False),
        nn.Linear(100, 10, bias=False),
    )
    state, counts = SparseState(), []
    for _ in range(3):
        PruneRate(rate=0.2, layer_rates={"2.weight": 0.1}).setup(model, state)
        counts.append([int(value.sum()) for value in state.mask.values()])
    assert counts == [[188160, 24000, 900], [150528, 19200, 810], [120422, 15360, 729]]


def test_gradual_reaches_the_target_on_time_and_never_revives():
    model, state = network(), SparseState(total_steps=20)
    method = Gradual(sparsity=0.8, begin=0.1, end=0.5, num_updates=4)
    method.setup(model, state)
    densities, before = [], None
    for _ in range(20):
        for parameter in model.parameters():  # weights move and come back in part
            parameter.data.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(state.step))
            )
        method.after_step(model, state)
        state.step += 1
        densities.append(density(model, state.mask))
        if before:
            assert all(not bool((state.mask[n] & ~before[n]).any()) for n in before)
        before = state.mask
    assert densities[0] == 1.0 and densities[9:] == [0.2] * 11
    assert densities == sorted(densities, reverse=True)


def test_every_method_gives_stages_whose_last_has_the_target_density_in_equal_epochs():
    dense = Stage(name="dense", epochs=3)
    for method in method_names():
        stages = plan(method, [0.5, 0.25], dense, 2)
        assert stages[-1].name.endswith("0.25"), method
        if method.startswith("lottery"):  # a level each time
            assert stages[0] == dense and all(stage.epochs == 2 for stage in stages[1:]), method
        else:
            assert sum(stage.epochs for stage in stages) == 3 + 2, method


def test_lottery_levels_score_the_level_before_and_start_from_the_first_weights():
    stages = plan("lottery", [0.5, 0.25], Stage(name="dense"), 2)
    assert [s.name for s in stages] == ["dense", "lottery-0.5", "lottery-0.25"]
    assert [s.start.weights for s in stages[1:]] == ["dense@0it", "dense@0it"]
    assert [s.start.score for s in stages[1:]] == ["dense", "lottery-0.5"]
    assert [s.start.mask for s in stages[1:]] == ["dense", "lottery-0.5"]


def test_an_unknown_method_names_the_closest():
    with pytest.raises(UserError, match="closest: 'lottery'"):
        plan("loterry", [0.5], Stage(name="dense"), 1)
