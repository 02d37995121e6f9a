"""AutoAttack under its usual name: balls, verdicts and, where it is installed, the reference."""

import copy
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from wiry.attacks.fab import FAB
from wiry.attacks.presets import autoattack, protocol_of, screen
from wiry.core.rng import stream
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.autoattack import AutoAttack

EPS = 0.1


@pytest.fixture(scope="module")
def case():
    """Return a small trained network and images of which it gets most right."""
    generator = stream(0, "autoattack")
    x = torch.rand(60, 1, 6, 6, generator=generator)
    y = (x[:, 0, :3].mean((1, 2)) > x[:, 0, 3:].mean((1, 2))).long() + 2 * (x[:, 0, 0, 0] > 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad()
    return model, x, y


@pytest.mark.parametrize(("norm", "eps"), [("Linf", EPS), ("L2", 0.5)])
def test_images_stay_in_the_ball_and_fool_where_the_table_says_so(case, norm, eps):
    model, x, y = case
    attack = AutoAttack(model, norm=norm, eps=eps)
    found, labels = attack.run_standard_evaluation(x, y, bs=25, return_labels=True)
    offset = (found - x).flatten(1)
    length = offset.abs().amax(1) if norm == "Linf" else offset.norm(dim=1)
    assert length.max() <= eps * (1 + 1e-4) and found.min() >= 0 and found.max() <= 1
    with torch.no_grad():
        right = model(found).argmax(1) == y
    assert torch.equal(labels == y, right)
    assert np.array_equal(attack.table.robust, right.numpy())
    assert attack.table.protocol == "AutoAttack (standard)"
    assert 0 < right.sum() < len(y)


def test_the_model_and_the_global_generator_are_left_as_found(case):
    model, x, y = case
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    model.train()
    AutoAttack(model, eps=EPS).run_standard_evaluation(x[:10], y[:10])
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()


def test_the_individual_evaluation_attacks_everything_with_each(case):
    model, x, y = case
    found = AutoAttack(model, eps=EPS).run_standard_evaluation_individual(x[:20], y[:20])
    assert list(found) == [repr(attack) for attack in autoattack(EPS)]
    rights = [(model(images).argmax(1) == y[:20]) for images in found.values()]
    cascade = AutoAttack(model, eps=EPS)
    cascade.run_standard_evaluation(x[:20], y[:20])
    assert torch.stack(rights).all(0).tolist() == cascade.table.robust.tolist()


def test_versions_have_their_attacks_and_other_lists_have_no_name():
    assert [type(a).__name__ for a in autoattack(EPS)] == ["APGD", "APGD", "FAB", "Square"]
    plus = autoattack(EPS, "l2", "plus")
    assert [a.registered_name for a in plus] == ["apgd", "apgd", "fab", "square", "apgd", "fab"]
    assert {a.num_passes for a in autoattack(EPS, version="rand")} == {20}
    for version in ("standard", "plus", "rand"):
        attacks = autoattack(EPS, version=version)
        assert protocol_of(attacks, cascade=True) == f"AutoAttack ({version})"
        assert protocol_of(attacks, cascade=False) is None
    assert protocol_of(screen(EPS), cascade=True) is None
    with pytest.raises(ValueError, match="'standard', 'plus' or 'rand', got 'turbo'"):
        autoattack(EPS, version="turbo")
    with pytest.raises(ValueError, match="l3"):
        autoattack(EPS, "l3")


def test_untargeted_fab_reaches_the_nearest_boundary_of_a_linear_model():
    """Class 2 is nearer than class 1: 0.05 over the l1 norm of its difference, 0.75."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.25, 0.5]]))
        model[1].bias.copy_(torch.tensor([0.0, -0.7, -0.425]))
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    distance = 0.05 / 0.75
    for eps, fools in ((1.02 * distance, True), (0.98 * distance, False)):
        found = FAB(eps, targeted=False)(model, x, y, stream(0))
        assert (model(found).argmax(1) != y).item() is fools


def test_verdicts_do_not_depend_on_the_batch_size(case):
    model, x, y = case
    tables = [
        attack_images(model, x[:24], y[:24], autoattack(EPS), cascade=True, batch_size=size)
        for size in (24, 7)
    ]
    assert np.array_equal(tables[0].robust, tables[1].robust)


@pytest.mark.skipif(
    importlib.util.find_spec("pyautoattack") is None,
    reason="pyautoattack, the reference, is not installed (pip install --no-deps pyautoattack)",
)
@pytest.mark.parametrize(("norm", "eps"), [("Linf", EPS), ("L2", 0.5)])
def test_verdicts_agree_with_the_reference(case, norm, eps):
    reference = pytest.importorskip("pyautoattack")
    model, x, y = case
    ours = AutoAttack(model, norm=norm, eps=eps).run_standard_evaluation(x, y)
    attack = reference.AutoAttack(model, norm=norm, eps=eps, seed=0)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 3  # it stops at nine
    theirs, _ = attack.run_standard_evaluation(x, y, batch_size=60)
    with torch.no_grad():
        agree = (model(ours).argmax(1) == y) == (model(theirs).argmax(1) == y)
    assert agree.float().mean() >= 0.98  # one image of 60
