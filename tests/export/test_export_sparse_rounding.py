"""Values in 16 bits are chosen and recorded, and an evaluation is of what is in the file."""

import copy

import pytest
import torch
from tests.export.example import EVALUATION, KEPT, trained
from tests.export.sparse_example import Holder, assert_same
from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.export.load import load
from wiry.export.sparse_file import load_state, save
from wiry.export.sparse_read import read_sparse

SHAPE = (1, 2, 2)


@pytest.mark.parametrize(("dtype", "kind"), [("float16", torch.half), ("bfloat16", torch.bfloat16)])
def test_rounding_is_chosen_recorded_and_of_large_weights_only(tmp_path, dtype, kind):
    model, path = trained(), tmp_path / "net.wiry"
    before = copy.deepcopy(model.state_dict())
    save(model, path, input_shape=SHAPE, dtype=dtype)
    found = load(path).state_dict()
    for name, tensor in before.items():
        rounded = name in ("hidden.0.weight", "head.weight")
        assert_same({name: found[name]}, {name: tensor.to(kind).float() if rounded else tensor})
    weights = torch.cat([before[n].flatten() for n in ("hidden.0.weight", "head.weight")])
    assert read_sparse(path).facts["rounding"] == {
        "dtype": dtype,
        "num_values": 18,
        "num_changed": int((weights.to(kind).float() != weights).sum()),
    }
    assert_same(model.state_dict(), before)


def test_an_evaluation_of_other_weights_is_refused_until_it_is_measured_again(tmp_path):
    model, path = trained(), tmp_path / "net.wiry"
    for change in ({"dtype": "float16"}, {"mask": Mask({"head.weight": KEPT})}):
        with pytest.raises(UserError, match=r"'head\.weight' is stored otherwise|hidden"):
            save(model, path, input_shape=SHAPE, evaluation=EVALUATION, **change)
        assert not path.exists()
        save(model, path, input_shape=SHAPE, **change)
        save(load(path), path, input_shape=SHAPE, evaluation=EVALUATION, **change)
        path.unlink()


def test_a_value_that_would_become_infinite_is_refused(tmp_path):
    model = Holder({"p": torch.tensor([[1e5, torch.inf]])})
    with pytest.raises(UserError, match="'p' has values that float16 cannot hold"):
        save(model, tmp_path / "net.wiry", input_shape=SHAPE, dtype="float16")
    save(model, tmp_path / "net.wiry", input_shape=SHAPE, dtype="bfloat16")
    with pytest.raises(UserError, match="dtype must be"):
        save(model, tmp_path / "net.wiry", input_shape=SHAPE, dtype="int8")


def test_tied_weights_are_masked_and_rounded_under_both_names(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    kept = torch.eye(3).bool()
    mask = Mask({"0.weight": kept})
    save(model, tmp_path / "net.wiry", input_shape=(3,), mask=mask, dtype="bfloat16")
    expected = (model[0].weight * kept).bfloat16().float()
    model.load_state_dict(load_state(tmp_path / "net.wiry"))
    assert torch.equal(model[0].weight, expected)
