"""The per-sample table on a model of one pixel, where every answer can be written out."""

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.evaluate.judge import check_inside, predict
from wiry.evaluate.table import CHUNK, Table, evaluate

NAMES = ("dark", "bright")


@dataclasses.dataclass(frozen=True)
class Shift:
    """Moves all pixels by a signed step."""

    step: float
    eps: float = 0.2
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        return (x + self.step).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Moves pixels at random."""

    eps: float = 0.2
    norm: Literal["linf"] = "linf"

    def __call__(self, model, x, y, generator):
        noise = torch.rand(x.shape, generator=generator) * 2 - 1
        return (x + self.eps * noise).clamp(0, 1)


class Threshold(nn.Module):
    """Says 1 where the pixel is above 0.5; a batch norm records whether it was touched."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        self.norm(x)
        pixel = self.weight * x.flatten(1)[:, :1]
        return torch.cat([0.5 - pixel, pixel - 0.5], dim=1)


def pixels(values):
    return torch.tensor(values).view(-1, 1, 1, 1)


X = pixels([0.10, 0.45, 0.55, 0.90, 0.90])
Y = torch.tensor([0, 0, 1, 1, 0])  # the last is wrong when clean
UP, DOWN = Shift(0.2), Shift(-0.2)


def test_table_has_the_written_out_rows():
    table = evaluate(Threshold(), X, Y, [UP, DOWN])
    assert table.index.tolist() == [0, 1, 2, 3, 4]
    assert table.prediction.tolist() == [0, 0, 1, 1, 1]
    assert table.clean_correct.tolist() == [True, True, True, True, False]
    assert table.by_attack[repr(UP)].tolist() == [True, False, True, True, False]
    assert table.by_attack[repr(DOWN)].tolist() == [True, True, False, True, False]
    assert table.robust.tolist() == [True, False, False, True, False]


def test_summary_has_the_written_out_shares():
    summary = evaluate(Threshold(), X, Y, [UP, DOWN]).summary(split="test", class_names=NAMES)
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
    table = evaluate(Threshold(), X, Y, [UP, DOWN], cascade=True)
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

    evaluate(Threshold(), X, Y, [UP, Spy(-0.2)], cascade=True)
    evaluate(Threshold(), X, Y, [UP, Spy(-0.2)])
    assert [len(batch) for batch in seen] == [3, 4]


def test_without_attacks_the_robust_numbers_are_null():
    table = evaluate(Threshold(), X, Y, [])
    summary = table.summary(split="test", class_names=(*NAMES, "absent"))
    assert summary["robust_accuracy"] is summary["robust_interval"] is summary["attack"] is None
    assert summary["eps"] is summary["norm"] is None and summary["attacks"] == []
    assert summary["per_class"][2] == {"name": "absent", "num": 0, "clean": None, "robust": None}
    assert "robust" not in table.arrays()


def test_worst_case_is_at_most_each_attack():
    x, y = torch.rand(300, 1, 1, 1, generator=torch.Generator().manual_seed(0)), None
    y = (x.flatten() > 0.5).long()
    table = evaluate(Threshold(), x, y, [UP, DOWN, Jitter()])
    assert all((table.robust <= robust).all() for robust in table.by_attack.values())
    assert all((robust <= table.clean_correct).all() for robust in table.by_attack.values())
    assert 0 < table.robust.sum() < min(robust.sum() for robust in table.by_attack.values())


def test_random_attacks_do_not_depend_on_batch_size_nor_on_later_chunks():
    x = torch.rand(2 * CHUNK + 60, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    y = (x.flatten() > 0.5).long()
    whole = evaluate(Threshold(), x, y, [Jitter()], batch_size=500).by_attack[repr(Jitter())]
    small = evaluate(Threshold(), x, y, [Jitter()], batch_size=7).by_attack[repr(Jitter())]
    first = evaluate(Threshold(), x[: 2 * CHUNK], y[: 2 * CHUNK], [Jitter()])
    assert np.array_equal(whole, small)
    assert np.array_equal(whole[: 2 * CHUNK], first.by_attack[repr(Jitter())])


def test_random_attacks_depend_on_the_seed_and_on_the_chunk():
    x, y = torch.full((2 * CHUNK, 1, 1, 1), 0.55), torch.ones(2 * CHUNK, dtype=torch.long)
    rows = [evaluate(Threshold(), x, y, [Jitter()], seed=s).robust for s in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1]) and not np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0][:CHUNK], rows[0][CHUNK:])


@dataclasses.dataclass(frozen=True)
class Rough:
    """Leaves the model in train mode with moved averages, and may fail."""

    fails: bool = False
    eps: float = 0.2
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        model.train()
        model(x)
        if self.fails:
            raise RuntimeError("attack fails")
        model.eval()
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_model_comes_back_as_it_was_also_on_error(fails):
    model = Threshold().train()
    model.norm.eval()
    model.norm.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if fails:
        with pytest.raises(RuntimeError, match="attack fails"):
            evaluate(model, X, Y, [Rough(fails=True)])
    else:
        evaluate(model, X, Y, [Rough()])
    assert model.training and not model.norm.training
    assert model.weight.requires_grad and not model.norm.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "attack",
    [Shift(0.21), Shift(-0.3), Shift(0.3, norm="l2"), Shift(0.0, eps=-1), Shift(0.1, norm="l7")],
    ids=repr,
)
def test_attack_outside_its_ball_is_an_error_that_names_it(attack):
    with pytest.raises(AssertionError, match=r"Shift\(step"):
        evaluate(Threshold(), X, Y, [attack])


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_images_outside_zero_and_one_are_an_error_that_names_the_attack(value):
    x = pixels([0.0, 1.0])
    with pytest.raises(AssertionError, match="Shift"):
        check_inside(Shift(0.0), x, torch.full_like(x, value))


def test_ball_is_measured_in_the_norm_of_the_attack():
    x = torch.full((1, 1, 2, 2), 0.5)
    moved = x + 0.1  # l2 distance 0.2, l1 distance 0.4
    check_inside(Shift(0.0, eps=0.2, norm="l2"), x, moved)
    check_inside(Shift(0.0, eps=0.4, norm="l1"), x, moved)
    with pytest.raises(AssertionError, match="left its ball"):
        check_inside(Shift(0.0, eps=0.199, norm="l2"), x, moved)
    with pytest.raises(AssertionError, match="left its ball"):
        check_inside(Shift(0.0, eps=0.399, norm="l1"), x, moved)


def test_images_with_infinite_logits_count_as_wrong():
    model = Threshold()
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    assert predict(model, X).tolist() == [-1] * 5
    assert not evaluate(model, X, Y, [UP]).clean_correct.any()


def test_examples_are_the_first_fooled_images():
    table = evaluate(Threshold(), X, Y, [UP, DOWN])
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
    assert evaluate(Threshold(), x, y, [DOWN]).examples["index"].tolist() == list(range(16))


def test_several_norms_and_radii_are_summed_up_honestly():
    def summary(*attacks):
        return evaluate(Threshold(), X, Y, attacks).summary(split="test", class_names=NAMES)

    assert summary(UP, Shift(0.1, eps=0.1))["eps"] == 0.2
    mixed = summary(UP, Shift(0.1, eps=0.1, norm="l2"))
    assert (mixed["eps"], mixed["norm"]) == (None, "l2+linf")


def test_progress_is_told_of_each_chunk():
    told = []
    x, y = torch.full((CHUNK + 1, 1, 1, 1), 0.9), torch.ones(CHUNK + 1, dtype=torch.long)
    evaluate(Threshold(), x, y, [UP], progress=lambda *row: told.append(row))
    assert told == [
        ("clean", 251, 251, 251),
        (repr(UP), 250, 251, 250),
        (repr(UP), 251, 251, 251),
    ]


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(UserError, match="twice"):
        evaluate(Threshold(), X, Y, [UP, Shift(0.2)])
    with pytest.raises(UserError, match="5 and 4"):
        evaluate(Threshold(), X, Y[:4], [])
    with pytest.raises(UserError, match="0 and 0"):
        evaluate(Threshold(), X[:0], Y[:0], [])


def saved(folder):
    table = evaluate(Threshold(), X, Y, [UP, DOWN], seed=3)
    table.save(folder, "test", table.summary(split="test", class_names=NAMES))
    return table


def test_table_comes_back_from_its_files_as_it_was(tmp_path):
    table, loaded = saved(tmp_path), Table.load(tmp_path, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.json", "test.npz"]
    before, after = table.arrays(), loaded.arrays()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value.dtype == after[key].dtype and np.array_equal(value, after[key])
    kwargs = {"split": "test", "class_names": NAMES}
    assert loaded.summary(**kwargs) == table.summary(**kwargs)


@pytest.mark.parametrize("file", ["test.json", "test.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "foreign", "flipped"])
def test_damaged_table_is_refused_by_name(tmp_path, file, damage):
    saved(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "empty": b"",
                "half": content[:middle],
                "foreign": b"[1, 2]",
                "flipped": content[:middle] + b"\xff" + content[middle + 1 :],
            }[damage]
        )
    with pytest.raises(UserError, match=r"test\.(json|npz)"):
        Table.load(tmp_path, "test")


def test_pickled_arrays_are_refused(tmp_path):
    table = saved(tmp_path)
    summary = table.summary(split="test", class_names=NAMES)
    pickled = dataclasses.replace(table, label=np.array([object()], dtype=object))
    pickled.save(tmp_path, "test", summary)
    with pytest.raises(UserError, match=r"test\.npz"):
        Table.load(tmp_path, "test")
