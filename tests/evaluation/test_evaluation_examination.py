"""`wiry.evaluate` on networks that wiry did not make: what it returns, skips, refuses and saves."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import wiry
from wiry.attacks.presets import autoattack
from wiry.core.rng import global_seed
from wiry.evaluation.examination import Evaluation
from wiry.evaluation.files import read_arrays
from wiry.evaluation.presets import attacks_of
from wiry.evaluation.progress import Status
from wiry.evaluation.table import Table

EPS = 0.05


@pytest.fixture(scope="module")
def case():
    with global_seed(0, "examination"):
        x = torch.rand(40, 1, 5, 5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 4
    return model, x, y


class Blind(nn.Module):
    """A network without a gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.no_grad():
            return self.model(x)


def test_the_usual_call_is_autoattack_with_accuracies_of_the_table(case):
    found = wiry.evaluate(*case, eps=EPS)
    assert isinstance(found, Evaluation) and found.table.protocol == "AutoAttack (standard)"
    assert found.clean_accuracy == 0.9
    assert found.robust_accuracy == found.table.robust.mean()
    assert 0 < found.robust_accuracy < 0.9
    assert f"robust {found.robust_accuracy:.1%} (AutoAttack (standard), linf eps 0.05)" in str(
        found
    )


def test_names_stand_for_attacks_and_unknown_ones_are_refused(case):
    assert attacks_of("autoattack", EPS) == attacks_of("screened", EPS) == autoattack(EPS)
    assert [type(a).__name__ for a in attacks_of("screen", EPS)] == ["PGD"]
    assert attacks_of("pgd", EPS, "l2") == (wiry.PGD(EPS, "l2"),)
    given = [wiry.FGSM(EPS), {"name": "pgd", "eps": EPS}]
    assert attacks_of(given, 1.0) == (wiry.FGSM(EPS), wiry.PGD(EPS))
    for bad, says in (
        ({"attack": "autoatack"}, "autoattack"),
        ({"norm": "l3"}, "norm"),
        ({"eps": 8}, "8/255"),
        ({"version": "turbo"}, "version"),
        ({"attack": "screened", "version": "plus"}, "version"),
        ({"attack": "pgd", "version": "plus"}, "version"),
        ({"measures": ["certifed"]}, "certified"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(wiry.UserError, match=says):
            wiry.evaluate(*case, **{"attack": "autoattack", "eps": EPS, **bad})


def test_images_that_bounds_prove_are_skipped_and_counted(case):
    model, x, y = case
    plain = wiry.evaluate(model, x, y, eps=0.002)
    skipping = wiry.evaluate(model, x, y, eps=0.002, skip_certified=True, measures=["certified"])
    data = skipping.to_data(split="test")
    num = data["certified"]["num"]
    assert 0 < num < 36 and data["certified"]["method"] == "ibp"
    assert data["attacks"][0]["num_attacked"] == 36 - num
    assert np.array_equal(plain.table.robust, skipping.table.robust)
    assert data["measures"][0]["values"]["certified_accuracy"] == num / 40
    assert plain.to_data(split="test")["certified"] is None
    with pytest.raises(wiry.UserError, match="linf only"):
        wiry.evaluate(model, x, y, eps=0.5, norm="l2", skip_certified=True)


def test_images_outside_the_pixel_range_are_not_attacked_but_found(case):
    model, x, y = case
    found = wiry.evaluate(model, 2 * x - 1, y, eps=EPS, measures=["certified"])
    assert found.robust_accuracy is None and found.measures == ()
    assert found.findings[0].check == "input-range" and found.findings[0].severity == "error"
    data = found.to_data(split="test")
    assert data["robust_accuracy"] is None and data["findings"][0]["check"] == "input-range"


def test_a_network_without_gradients_is_said_and_square_can_judge_it(case):
    model, x, y = case
    with pytest.raises(wiry.UserError, match="such as square"):
        wiry.evaluate(Blind(model), x, y, eps=EPS)
    attack = [wiry.Square(EPS, num_queries=200)]
    found = wiry.evaluate(Blind(model), x, y, attack, check=False)
    assert np.array_equal(found.table.robust, wiry.evaluate(model, x, y, attack).table.robust)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nn.Flatten(), "labels run from"),
        (nn.Identity(), "shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(25, 2)), "2 classes"),
    ],
)
def test_a_network_that_does_not_fit_the_images_is_refused(case, network, says):
    _, x, y = case
    with pytest.raises(wiry.UserError, match=says):
        wiry.evaluate(network, x, y + 30 if says == "labels run from" else y, eps=EPS)


def test_what_is_saved_can_be_read_and_the_model_comes_back_as_it_was(case, tmp_path):
    model, x, y = case
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    told = []
    found = wiry.evaluate(
        model, x, y, "screened", eps=EPS, measures=["certified"], progress=told.append
    )
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.eval()
    record = found.save(tmp_path, split="test")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == record
    assert record["split"] == "test" and record["screened"]["num_audited"] > 0
    assert np.array_equal(Table.load(tmp_path, "evaluation").robust, found.table.robust)
    proven = read_arrays(tmp_path / "evaluation.npz")["measure_0_certified"]
    assert proven.shape == (40,)
    assert all(isinstance(status, Status) for status in told) and told[-1].attack == "certified"


def test_a_measure_in_a_recipe_is_no_part_of_the_identity_until_it_is_there():
    plain = {
        "name": "m",
        "data": "digits",
        "model": {"name": "mlp", "widths": [8]},
        "stages": [{"name": "dense", "epochs": 1}],
    }
    measured = {**plain, "evaluation": {"measures": ["certified"]}}
    recipes = [wiry.parse_recipe(plain), wiry.parse_recipe(measured)]
    assert recipes[0].identity() != recipes[1].identity()
    assert recipes[1].evaluation.measures == [{"name": "certified"}]
