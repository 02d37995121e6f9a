"""An evaluation's files: written once, read back, made again where they do not fit."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from wiry.core.mask import Mask
from wiry.evaluation.fingerprint import fingerprint
from wiry.evaluation.record import run_evaluation
from wiry.evaluation.table import Table


@dataclasses.dataclass(frozen=True)
class Darken:
    """Takes eps from every pixel."""

    eps: float = 0.1
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        return (x - self.eps).clamp(0, 1)


KEPT = torch.tensor([[True, False], [True, True]])
X = torch.rand(30, 1, 1, 2, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(30) % 2).long()


def network():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]))
        model[1].bias.zero_()
    return model


def run(folder, model=None, **changes):
    kwargs = {
        "attacks": [Darken()],
        "split": "test",
        "class_names": ("a", "b"),
        "input_shape": (1, 1, 2),
        "seed": 0,
        "folder": folder,
        "name": "test-0.5",
        **changes,
    }
    attacks, mask = kwargs.pop("attacks"), kwargs.pop("mask", Mask({"1.weight": KEPT}))
    return run_evaluation(model or network(), mask, X, Y, attacks, **kwargs)


def refuse(*row):
    raise AssertionError("computed again")


def test_record_on_disk_is_what_is_returned_and_derives_from_the_table(tmp_path):
    record = run(tmp_path)
    assert json.loads((tmp_path / "test-0.5.json").read_text()) == record
    table = Table.load(tmp_path, "test-0.5")
    assert record["clean_accuracy"] == table.clean_correct.mean()
    assert record["robust_accuracy"] == table.robust.mean()
    assert record["cost"]["nonzeros"] == 3 and record["seconds"] > 0


def test_finished_evaluation_is_not_computed_again(tmp_path):
    record = run(tmp_path)
    assert run(tmp_path, progress=refuse) == record


@pytest.mark.parametrize("ending", ["json", "npz"])
def test_damaged_evaluation_is_made_again(tmp_path, ending):
    record = run(tmp_path)
    path = tmp_path / f"test-0.5.{ending}"
    path.write_bytes(path.read_bytes()[:-20])
    again = run(tmp_path)
    for found in (record, again):
        found["seconds"] = found["attacks"][0]["seconds"] = 0
    assert again == record
    assert Table.load(tmp_path, "test-0.5").label.tolist() == Y.tolist()


def test_record_of_another_question_is_made_again(tmp_path):
    run(tmp_path)
    for changes in ({"seed": 1}, {"split": "validation"}, {"attacks": [Darken(eps=0.2)]}):
        record = run(tmp_path, **changes)
        assert run(tmp_path, **changes, progress=refuse) == record
    assert record["eps"] == 0.2 and record["split"] == "test"


def test_record_of_other_weights_is_made_again(tmp_path):
    model = network()
    first = run(tmp_path, model)
    with torch.no_grad():
        model[1].bias[0] += 10
    assert run(tmp_path, model)["weights_sha256"] != first["weights_sha256"]


def test_fingerprint_sees_names_values_and_buffers():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = fingerprint(model)
    assert fingerprint(model) == before
    model[1].num_batches_tracked += 1
    assert fingerprint(model) != before


def test_weights_where_the_mask_says_none_are_a_finding(tmp_path):
    record = run(tmp_path, mask=Mask({"1.weight": torch.zeros(2, 2)}))
    assert ("mask", "error") in {(f["check"], f["severity"]) for f in record["findings"]}
    assert "mask" not in {f["check"] for f in run(tmp_path / "sound")["findings"]}
