"""The per-sample table: rows, shares, randomness and examples, written out."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.evaluation.example import DOWN, NAMES, UP, Jitter, Shift, Threshold, X, Y
from torch import nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fab import FAB
from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square
from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.judge import predict
from wiry.evaluation.session import CHUNK


def test_table_has_the_written_out_rows():
    table = attack_images(Threshold(), X, Y, [UP, DOWN])
    assert table.index.tolist() == [0, 1, 2, 3, 4]
    assert table.prediction.tolist() == [0, 0, 1, 1, 1]
    assert table.clean_correct.tolist() == [True, True, True, True, False]
    assert table.by_attack[repr(UP)].tolist() == [True, False, True, True, False]
    assert table.by_attack[repr(DOWN)].tolist() == [True, True, False, True, False]
    assert table.robust.tolist() == [True, False, False, True, False]


def test_summary_has_the_written_out_shares():
    summary = attack_images(Threshold(), X, Y, [UP, DOWN]).summary(split="test", class_names=NAMES)
    assert (summary["clean_accuracy"], summary["robust_accuracy"]) == (0.8, 0.4)
    assert summary["clean_interval"] == pytest.approx([0.3755, 0.9638], abs=1e-4)
    assert [row["accuracy"] for row in summary["attacks"]] == [0.6, 0.6]
    assert [row["cumulative"] for row in summary["attacks"]] == [False, False]
    assert summary["attacks"][0]["spec"] == {
        "name": "Shift",
        "step": 0.2,
        "eps": 0.2,
        "norm": "linf",
    }
    assert summary["per_class"] == [
        {"name": "dark", "num": 3, "clean": 2 / 3, "robust": 1 / 3},
        {"name": "bright", "num": 2, "clean": 1.0, "robust": 0.5},
    ]
    assert summary["attack"] == f"worst case of 2 attacks: {UP!r}, {DOWN!r}"
    assert (summary["eps"], summary["norm"], summary["num_samples"]) == (0.2, "linf", 5)


def test_cascade_has_the_same_worst_case_and_says_that_it_is_cumulative():
    table = attack_images(Threshold(), X, Y, [UP, DOWN], cascade=True)
    assert table.by_attack[repr(UP)].tolist() == [True, False, True, True, False]
    assert table.by_attack[repr(DOWN)].tolist() == [True, False, False, True, False]
    assert table.robust.tolist() == [True, False, False, True, False]
    summary = table.summary(split="test", class_names=NAMES)
    assert [row["cumulative"] for row in summary["attacks"]] == [True, True]
    assert "each run on what the earlier ones left" in summary["attack"]


def test_later_attacks_of_a_cascade_see_only_what_is_left():
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Spy(Shift):
        def __call__(self, model, x, y, generator):
            seen.append(x.flatten().tolist())
            return super().__call__(model, x, y, generator)

    attack_images(Threshold(), X, Y, [UP, Spy(-0.2)], cascade=True)
    attack_images(Threshold(), X, Y, [UP, Spy(-0.2)])
    assert [len(batch) for batch in seen] == [3, 4]


def test_without_attacks_the_robust_numbers_are_null():
    table = attack_images(Threshold(), X, Y, [])
    summary = table.summary(split="test", class_names=(*NAMES, "absent"))
    assert summary["robust_accuracy"] is summary["robust_interval"] is summary["attack"] is None
    assert summary["eps"] is summary["norm"] is None and summary["attacks"] == []
    assert summary["per_class"][2] == {"name": "absent", "num": 0, "clean": None, "robust": None}
    assert "robust" not in table.arrays()


def test_worst_case_is_at_most_each_attack():
    x, y = torch.rand(300, 1, 1, 1, generator=torch.Generator().manual_seed(0)), None
    y = (x.flatten() > 0.5).long()
    table = attack_images(Threshold(), x, y, [UP, DOWN, Jitter()])
    assert all((table.robust <= robust).all() for robust in table.by_attack.values())
    assert all((robust <= table.clean_correct).all() for robust in table.by_attack.values())
    assert 0 < table.robust.sum() < min(robust.sum() for robust in table.by_attack.values())


def test_random_attacks_do_not_depend_on_batch_size_nor_on_later_chunks():
    x = torch.rand(2 * CHUNK + 60, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    y = (x.flatten() > 0.5).long()
    whole = attack_images(Threshold(), x, y, [Jitter()], batch_size=500).by_attack[repr(Jitter())]
    small = attack_images(Threshold(), x, y, [Jitter()], batch_size=7).by_attack[repr(Jitter())]
    first = attack_images(Threshold(), x[: 2 * CHUNK], y[: 2 * CHUNK], [Jitter()])
    assert np.array_equal(whole, small)
    assert np.array_equal(whole[: 2 * CHUNK], first.by_attack[repr(Jitter())])


def test_random_attacks_depend_on_the_seed_and_on_the_chunk():
    x, y = torch.full((2 * CHUNK, 1, 1, 1), 0.55), torch.ones(2 * CHUNK, dtype=torch.long)
    rows = [attack_images(Threshold(), x, y, [Jitter()], seed=s).robust for s in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1]) and not np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0][:CHUNK], rows[0][CHUNK:])


def test_images_with_infinite_logits_count_as_wrong():
    model = Threshold()
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    assert predict(model, X).tolist() == [-1] * 5
    assert not attack_images(model, X, Y, [UP]).clean_correct.any()


def test_examples_are_the_first_fooled_images():
    table = attack_images(Threshold(), X, Y, [UP, DOWN])
    assert table.examples["index"].tolist() == [1, 2]
    assert table.examples["label"].tolist() == [0, 1]
    assert table.examples["clean_prediction"].tolist() == [0, 1]
    assert table.examples["adversarial_prediction"].tolist() == [1, 0]
    assert table.examples["clean"].flatten().tolist() == [115, 140]
    assert table.examples["adversarial"].flatten().tolist() == pytest.approx([0.65, 0.35], abs=1e-3)
    assert table.examples["clean"].dtype == np.uint8
    assert table.examples["adversarial"].dtype == np.float16


def test_at_most_sixteen_examples_are_kept():
    x, y = torch.full((40, 1, 1, 1), 0.55), torch.ones(40, dtype=torch.long)
    assert attack_images(Threshold(), x, y, [DOWN]).examples["index"].tolist() == list(range(16))


def test_several_norms_and_radii_are_summed_up_honestly():
    def summary(*attacks):
        return attack_images(Threshold(), X, Y, attacks).summary(split="test", class_names=NAMES)

    assert summary(UP, Shift(0.1, eps=0.1))["eps"] == 0.2
    mixed = summary(UP, Shift(0.1, eps=0.1, norm="l2"))
    assert (mixed["eps"], mixed["norm"]) == (None, "l2+linf")


def test_progress_is_told_of_each_chunk():
    told = []
    x, y = torch.full((CHUNK + 1, 1, 1, 1), 0.9), torch.ones(CHUNK + 1, dtype=torch.long)
    attack_images(Threshold(), x, y, [UP], progress=told.append)
    assert [(s.attack, s.num_done, s.num_todo, s.num_right, s.num_images) for s in told] == [
        ("clean", 251, 251, 251, 251),
        (repr(UP), 0, 251, 251, 251),
        (repr(UP), 250, 251, 251, 251),
        (repr(UP), 251, 251, 251, 251),
    ]
    assert told[1].seconds_left is None
    assert told[2].seconds_left > 0 and told[3].seconds_left == 0


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(UserError, match="twice"):
        attack_images(Threshold(), X, Y, [UP, Shift(0.2)])
    with pytest.raises(UserError, match="5 and 4"):
        attack_images(Threshold(), X, Y[:4], [])
    with pytest.raises(UserError, match="0 and 0"):
        attack_images(Threshold(), X[:0], Y[:0], [])


def test_rows_do_not_depend_on_the_batches_images_are_attacked_in():
    """Every image draws from its own stream, also where the others were fooled and have left."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    x = torch.rand(23, 1, 4, 4, dtype=torch.float64)
    y = model(x).argmax(1)
    attacks = [
        PGD(0.1, steps=3, restarts=2),
        APGD(0.1, steps=5),
        FAB(0.1, steps=5),
        Square(0.1, num_queries=20),
        Square(0.3, "l2", num_queries=20),
    ]
    whole = attack_images(model, x, y, attacks)
    for table in (attack_images(model, x, y, attacks, batch_size=n) for n in (1, 5)):
        for name, robust in whole.by_attack.items():
            assert np.array_equal(table.by_attack[name], robust), name
    assert 0 < sum(r.sum() for r in whole.by_attack.values()) < 23 * len(attacks)
