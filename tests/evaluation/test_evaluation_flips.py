"""Flips between a dense and a sparse network: counts, tests and margins, written out."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from tests.evaluation.example import UP, Threshold, X, Y
from torch import nn

from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.flips import clean_margins, compare_verdicts, foretold_by
from wiry.evaluation.paired import mcnemar, paired_interval
from wiry.evaluation.table import Table

LABEL = [0, 0, 0, 0, 1, 1, 1, 1]
MARGIN = np.array([4, 3, 2, 1, 0.5, 0.5, -1, -2])


def table(clean, robust=None, label=LABEL, eps=0.1):
    clean = np.array(clean, dtype=bool)
    attacked = robust is not None
    spec = {"spec": {"name": "pgd"}, "eps": eps, "norm": "linf"}
    return Table(
        index=np.arange(len(clean)),
        label=np.array(label),
        prediction=np.where(clean, label, 1 - np.array(label)),
        clean_correct=clean,
        by_attack={f"PGD({eps})": np.array(robust, dtype=bool)} if attacked else {},
        attacks=(spec,) if attacked else (),
        seed=0,
        cascade=False,
        examples={},
    )


DENSE = table([1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0])
SPARSE = table([1, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1, 1, 0])


def test_clean_flips_are_those_written_out():
    clean = compare_verdicts(DENSE, SPARSE, MARGIN, num_bins=3).clean
    counts = (clean.num_kept, clean.num_lost, clean.num_gained, clean.num_wrong)
    assert counts == (4, 2, 1, 1)
    assert (clean.dense_accuracy, clean.sparse_accuracy, clean.difference) == (0.75, 0.625, -0.125)
    assert clean.lost.tolist() == [3, 4] and clean.gained.tolist() == [6]
    assert clean.p_value == 1.0  # 2 heads in 3 tosses are nothing
    assert clean.interval[0] < -0.125 < clean.interval[1]


def test_robust_flips_are_those_written_out():
    robust = compare_verdicts(DENSE, SPARSE, class_names=("cat", "dog")).robust
    counts = (robust.num_kept, robust.num_lost, robust.num_gained, robust.num_wrong)
    assert counts == (1, 2, 2, 3)
    assert robust.difference == 0 and robust.p_value == 1
    assert robust.foretold is None
    assert robust.per_class == [
        {"name": "cat", "num": 4, "dense": 0.5, "sparse": 0.25, "difference": -0.25, "lost": 1,
         "gained": 0},
        {"name": "dog", "num": 4, "dense": 0.25, "sparse": 0.5, "difference": 0.25, "lost": 1,
         "gained": 2},
    ]  # fmt: skip


def test_margins_foretell_what_is_lost():
    # of the six that were right, those with margins 1 and 0.5 are lost, and 4, 3, 2 and 0.5 kept:
    # 1 is below three of the kept, 0.5 below three and level with one
    foretold = compare_verdicts(DENSE, SPARSE, MARGIN, num_bins=3).clean.foretold
    assert foretold.auc == pytest.approx((3 + 3.5) / 8)
    assert foretold.curve.x == [0.5, 1.5, 3.5]
    assert foretold.curve.y == [0.5, 0.5, 0.0]
    spread = math.sqrt(30.5 / 6 - (11 / 6) ** 2)
    by_hand = (0.75 - 9.5 / 4) / spread * math.sqrt(2 / 6 * 4 / 6)  # the point-biserial formula
    assert foretold.correlation == pytest.approx(by_hand)


def test_nothing_is_said_where_nothing_was_lost_or_all_margins_are_equal():
    none = foretold_by(np.array([1.0, 2.0]), np.array([False, False]), "clean")
    assert (none.auc, none.correlation, none.curve.y) == (None, None, [0.0, 0.0])
    level = foretold_by(np.array([1.0, 1.0]), np.array([True, False]), "clean")
    assert (level.auc, level.correlation) == (0.5, None)
    empty = foretold_by(np.array([]), np.array([], dtype=bool), "clean")
    assert (empty.auc, empty.curve.x) == (None, [])
    sure = foretold_by(np.array([1.0, 2.0, 3.0]), np.array([True, False, False]), "clean")
    assert sure.auc == 1.0


def test_the_same_table_has_no_flips():
    flips = compare_verdicts(DENSE, DENSE, MARGIN)
    for verdicts in (flips.clean, flips.robust):
        assert verdicts.num_lost == verdicts.num_gained == 0
        assert verdicts.difference == 0 and verdicts.p_value == 1
        assert verdicts.interval[0] == pytest.approx(-verdicts.interval[1])


def test_data_are_plain_and_robust_is_null_without_attacks():
    flips = compare_verdicts(table([1] * 8), table([0] * 8), MARGIN)
    data = json.loads(json.dumps(flips.to_data()))
    assert data["robust"] is None
    assert data["clean"]["lost"] == list(range(8))
    assert data["clean"]["p_value"] == 2 / 2**8
    assert data["clean"]["foretold"]["curve"]["y"] == [1.0] * 4
    assert json.dumps(compare_verdicts(DENSE, SPARSE).to_data())


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (2, 12, 0.012939453125), (7, 7, 1.0)],
)
def test_mcnemar_is_a_fair_coin(lost, gained, p_value):
    assert mcnemar(lost, gained) == p_value == mcnemar(gained, lost)


def test_mcnemar_takes_thousands_of_flips():
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(4000, 5000) < 1e-20
    stats = pytest.importorskip("scipy.stats")
    assert mcnemar(480, 560) == pytest.approx(stats.binomtest(480, 1040).pvalue, rel=1e-9)


def test_the_paired_interval_is_that_of_newcombe():
    assert paired_interval(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    assert paired_interval(36, 12, 2, 0) == pytest.approx((-0.3404, -0.0569), abs=1e-4)
    assert paired_interval(54, 0, 0, 0) == pytest.approx((-0.0664, 0.0664), abs=1e-4)
    assert paired_interval(0, 0, 5, 0)[1] == 1.0


def test_the_paired_interval_covers_the_true_difference():
    generator = np.random.default_rng(0)
    shares = [0.5, 0.15, 0.05, 0.3]
    covered = 0
    for counts in generator.multinomial(200, shares, size=400):
        low, high = paired_interval(*map(int, counts))
        covered += low <= 0.05 - 0.15 <= high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(
    ("dense", "sparse", "margin", "message"),
    [
        (table([1, 0], label=[0, 1]), table([1, 0], label=[1, 1]), None, "on the same images"),
        (table([1, 0], label=[0, 1]), DENSE, None, "on the same images"),
        (DENSE, table([1] * 8), None, "the evaluations used PGD"),
        (DENSE, table([1] * 8, [1] * 8, eps=0.2), None, "under the same attacks"),
        (DENSE, SPARSE, MARGIN[:3], "8 images need as many margins"),
    ],
)
def test_what_cannot_be_compared_is_refused(dense, sparse, margin, message):
    with pytest.raises(UserError, match=message):
        compare_verdicts(dense, sparse, margin)


def test_margins_are_the_lead_of_the_label_and_the_model_is_left_alone():
    model = Threshold().train()
    found = clean_margins(model, X, Y, batch_size=2)
    # logits 0.5 - pixel and pixel - 0.5, so the lead is twice the distance from 0.5
    assert found == pytest.approx([0.8, 0.1, 0.1, 0.8, -0.8], abs=1e-6)
    assert model.training and model.weight.requires_grad
    assert model.norm.num_batches_tracked == 0
    assert clean_margins(model, X[:0], Y[:0]).shape == (0,)

    class Broken(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1)[:, 0] / 0, x.flatten(1)[:, 0]], 1)

    assert clean_margins(Broken(), X, Y).tolist() == [-math.inf] * 5


def test_real_tables_are_compared():
    dense, sparse = Threshold(), Threshold()
    with torch.no_grad():
        sparse.weight.fill_(1.2)  # now bright from 0.42 on
    tables = [attack_images(model, X, Y, [UP]) for model in (dense, sparse)]
    flips = compare_verdicts(*tables, clean_margins(dense, X, Y))
    assert flips.clean.lost.tolist() == [1]  # 0.45 is dark for the dense network only
    assert flips.clean.foretold.auc == pytest.approx(2.5 / 3)
    assert dataclasses.is_dataclass(flips.robust)
