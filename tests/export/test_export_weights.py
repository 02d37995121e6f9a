"""Weights from a file: all of them fit or one line says which do not."""

import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.export.weights import load_weights_


def network(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


@pytest.fixture
def trained():
    torch.manual_seed(5)
    made = network()
    nn.init.normal_(made[1].weight)
    return made


def same(first, second):
    expected = second.state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in first.state_dict().items())


def saved(path, state):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("file", ["net.safetensors", "net.pt", "net.pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_weights_come_back_with_and_without_a_prefix(file, prefix, trained, tmp_path):
    state = {f"{prefix}{name}": tensor for name, tensor in trained.state_dict().items()}
    fresh = network()
    remarks = load_weights_(fresh, saved(tmp_path / file, state))
    assert same(fresh, trained)
    assert [prefix in remark for remark in remarks] == ([True] if prefix else [])


def test_a_checkpoint_with_other_things_in_it_is_opened_and_said(trained, tmp_path):
    content = {"state_dict": trained.state_dict(), "epoch": 3, "args": {"lr": 0.1}}
    fresh = network()
    remarks = load_weights_(fresh, saved(tmp_path / "c.pth", content))
    assert same(fresh, trained) and "'state_dict'" in remarks[0]


def test_half_precision_is_widened_and_said(trained, tmp_path):
    state = {n: t.half() if t.is_floating_point() else t for n, t in trained.state_dict().items()}
    fresh = network()
    remarks = load_weights_(fresh, saved(tmp_path / "h.safetensors", state))
    assert "float16" in remarks[0]
    assert torch.equal(fresh[0].weight, trained[0].weight.half().float())


def test_a_missing_counter_of_batches_is_no_fault(trained, tmp_path):
    state = {n: t for n, t in trained.state_dict().items() if "num_batches" not in n}
    fresh = network()
    load_weights_(fresh, saved(tmp_path / "o.safetensors", state))
    assert same(fresh, trained)


def change(state, **changes):
    return {**state, **changes}


WRONG = {
    "lacks 1 of the network's 7 tensors: '0.bias'": lambda s: {
        n: t for n, t in s.items() if n != "0.bias"
    },
    "has 1 that the network does not know: 'extra'": lambda s: change(s, extra=torch.ones(1)),
    "(3, 4), the network has (3, 2)": lambda s: {**s, "0.weight": torch.ones(3, 4)},
    "'0.bias', '0.weight' and has 2 that the network does not know: 'linear.bias'": lambda s: {
        n.replace("0.weight", "linear.weight").replace("0.", "linear."): t for n, t in s.items()
    },
    "it holds none": lambda s: {"epoch": 3},
    "several: model, ema": lambda s: {"model": s, "ema": s},
    "one state dict": lambda s: [1, 2],
    "state dict, it holds none": lambda s: {},
}


@pytest.mark.parametrize("expected", WRONG)
def test_weights_that_do_not_fit_are_refused_in_one_line(expected, trained, tmp_path):
    path = saved(tmp_path / "w.pt", WRONG[expected](dict(trained.state_dict())))
    fresh = network()
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(UserError, match=r"w\.pt") as caught:
        load_weights_(fresh, path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(before[n], t) for n, t in fresh.state_dict().items())


class Evil:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.wiry_was_here = True",))


def test_a_pickle_with_code_is_refused_and_not_run(trained, tmp_path):
    import builtins

    torch.save({"state_dict": trained.state_dict(), "evil": Evil()}, tmp_path / "a.pt")
    torch.save(trained, tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "d.pt").write_bytes(b"nothing")
    for name in "abcd":
        with pytest.raises(UserError, match="without running code") as caught:
            load_weights_(network(), tmp_path / f"{name}.pt")
        assert "save_file" in str(caught.value)
    assert not hasattr(builtins, "wiry_was_here")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for name in ("absent.safetensors", "absent.pt", "."):
        with pytest.raises(UserError, match="not a file"):
            load_weights_(network(), tmp_path / name)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors"):
        load_weights_(network(), tmp_path / "x.safetensors")
