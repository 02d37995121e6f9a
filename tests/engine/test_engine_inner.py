"""The engine takes the network's place in attacks by a rule, and only there."""

import pytest
import torch
from tests.engine.networks import NETWORKS, SHAPE, images, made
from tests.train.tiny import artifacts, tiny_recipe
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.inner import searched, searching_on
from wiry.core.rng import stream
from wiry.engine import inner
from wiry.engine.inner import SparseTwin, sparse_network, work
from wiry.engine.lower import lower
from wiry.engine.network import SparseNetwork
from wiry.evaluation.fold import folded
from wiry.objectives.adversarial import Adversarial
from wiry.train.stages import Session, train

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")


@pytest.fixture
def lines():
    return []


@pytest.fixture
def small_counts(monkeypatch):
    """Let the rule look at small networks too."""
    monkeypatch.setattr(inner, "LEAST_WORK", 0)


@pytest.fixture
def global_generator_kept():
    with torch.random.fork_rng(devices=[]):
        yield


def test_work_is_weights_times_places():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 3))
    with torch.no_grad():
        model[0].weight[0] = 0
        model[2].weight[:, 8:] = 0
    assert work(lower(model, (1, 4, 4)).graph, model) == (9 * 16 + 3 * 8, 18 * 16 + 3 * 32)


def test_the_rule_takes_networks_of_which_little_is_left(small_counts, lines):
    model = made(NETWORKS["OwnResNet"], density=0.5).eval()
    twin = SparseTwin(model, SHAPE, "auto", lines.append)
    assert twin() is model and sparse_network(model, SHAPE) is None and lines == []
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(torch.rand(p.shape) < 0.1)
    assert isinstance(twin(), SparseNetwork) and twin() is twin()
    assert isinstance(sparse_network(model, SHAPE), SparseNetwork)
    nn.init.ones_(model.blocks[0].conv1.weight)
    nn.init.ones_(model.stem[0].weight)
    assert twin() is model
    assert [line.partition(":")[0] for line in lines] == [
        "attacks search on the sparse weights",
        "attacks search on all weights, zeros too",
    ]


def test_small_networks_are_left_alone():
    assert sparse_network(made(NETWORKS["OwnResNet"], density=0.01), SHAPE) is None


def test_what_the_engine_does_not_know_is_said_once_or_refused(small_counts, lines):
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 2000), nn.Sigmoid(), nn.Linear(2000, 2))
    nn.init.zeros_(model[1].weight)
    twin = SparseTwin(model, SHAPE, "auto", lines.append)
    assert twin() is model and twin() is model and len(lines) == 1
    assert "layer '2' (Sigmoid)" in lines[0]
    with pytest.raises(UserError, match=r"layer '2' \(Sigmoid\)"):
        SparseTwin(model, SHAPE, "sparse", lines.append)
    assert SparseTwin(model, SHAPE, "dense", lines.append)() is model and len(lines) == 1


def test_attacks_find_the_twin_only_inside_and_only_in_eval_mode():
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    with searching_on(model, lambda: other):
        assert searched(model, "eval") is other and searched(model, "train") is model
        assert searched(other, "eval") is other
    assert searched(model, "eval") is model
    with searching_on(model, None):
        assert searched(model, "eval") is model


@pytest.mark.usefixtures("global_generator_kept")
def test_a_step_with_the_engine_has_the_loss_and_gradients_of_one_without(lines):
    model = made(NETWORKS["OwnResNet"], density=0.2).train()
    x = images(32)
    batch = Batch(x, torch.arange(32) % 5, torch.arange(32))
    objective = Adversarial(attack=PGD(eps=0.03, steps=2))
    found = []
    for twin in (None, SparseTwin(model, SHAPE, "sparse", lines.append)):
        torch.manual_seed(0)  # of the dropout
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.zero_grad()
        with searching_on(model, twin):
            loss = objective(model, model, batch, stream(0, "attack"))
        loss.total.backward()
        found.append((loss.total.item(), [p.grad.clone() for p in model.parameters()]))
        model.load_state_dict(state)
    (dense, wanted), (sparse, gradients) = found
    assert sparse == pytest.approx(dense, rel=1e-4) and len(lines) == 1
    for gradient, other in zip(gradients, wanted, strict=True):
        assert (gradient - other).norm() <= 1e-2 * other.norm()  # a sign of a pixel may flip


def recipe(engine):
    stage = {"name": "dense", "epochs": 2, "engine": engine}
    stage["objective"] = {"name": "adversarial", "attack": {"name": "pgd", "steps": 2}}
    stage["sparsifier"] = {"name": "rigl", "sparsity": 0.9}
    return tiny_recipe(stages=[stage], model={"name": "cnn-small", "width": 8})


def test_a_training_with_the_engine_is_the_same_each_time_and_says_so(tmp_path, lines):
    session = Session(announce=lines.append)
    runs = [train(recipe("sparse"), tmp_path / place, session) for place in ("a", "b")]
    assert artifacts(runs[0]) == artifacts(runs[1])
    assert sum("attacks search on the sparse weights" in line for line in lines) == 2
    train(recipe("dense"), tmp_path / "c", session)
    assert sum("attacks search on" in line for line in lines) == 2


def test_the_rule_is_the_default_and_changes_no_run_identity():
    assert recipe("auto").identity() == recipe("auto").model_copy().identity()
    assert "engine" not in recipe("auto").model_dump(exclude_defaults=True)["stages"][0]


def test_evaluation_searches_on_the_engine_where_little_is_left(small_counts):
    model = made(NETWORKS["OwnResNet"], density=0.1).eval()
    found, num_norms = folded(model, images(8))
    assert isinstance(found, SparseNetwork) and num_norms == 6
