"""Networks that somebody else wrote: imported, built, normalised, asked; every mistake by name."""

import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from wiry.core.errors import UserError
from wiry.export.outside import (
    Normalized,
    build_outside,
    check_answers,
    in_batches_of,
    nonzeros,
    settle_masks_,
)

SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, bias=True):
        super().__init__()
        self.fc = nn.Linear(4, width, bias=bias)
    def forward(self, x):
        return self.fc(x.flatten(1))

def build(width=3):
    return Net(width)

def broken():
    raise RuntimeError("no\\nluck")

def leaves():
    raise SystemExit(0)

def number():
    return 3

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

made = Net(2)
VALUE = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `theirs` in the working directory, forgotten after the test."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("")
    (tmp_path / "theirs" / "nets.py").write_text(SOURCE)
    (tmp_path / "theirs" / "bad.py").write_text("1 / 0\n")
    (tmp_path / "theirs" / "needs.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "theirs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


def test_a_function_a_class_and_a_network_of_the_working_directory(package):
    built, _ = build_outside("theirs.nets:build", {"width": 5})
    assert built.fc.weight.shape == (5, 4)
    assert build_outside("theirs.nets:Net", {"width": 2, "bias": False})[0].fc.bias is None
    assert build_outside("theirs.nets:made", {})[0].fc.weight.shape == (2, 4)


def test_building_draws_the_same_and_leaves_the_global_generator_alone(package):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = build_outside("theirs.nets:build", {})
    second, _ = build_outside("theirs.nets:build", {})
    assert torch.equal(first.fc.weight, second.fc.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_the_digest_changes_with_the_source(package):
    _, first = build_outside("theirs.nets:build", {})
    _, same = build_outside("theirs.nets:build", {"width": 7})
    (package / "nets.py").write_text(SOURCE + "# changed\n")
    assert first == same != build_outside("theirs.nets:build", {})[1]


@pytest.mark.parametrize(
    ("place", "arguments", "expected"),
    [
        ("theirs.nets", {}, "package.module:function"),
        (":build", {}, "package.module:function"),
        ("theirs.nets:", {}, "package.module:function"),
        ("theirs.nets:biuld", {}, "closest: 'build'"),
        ("theirs.nots:build", {}, "no module 'theirs.nots'"),
        ("theirs.needs:build", {}, "no module 'not_there_at_all'"),
        ("theirs.bad:build", {}, "ZeroDivisionError: division by zero (bad.py, line 1)"),
        ("..nets:build", {}, "failed"),
        ("theirs.nets:build", {"wdith": 3}, "unexpected keyword argument 'wdith'"),
        ("theirs.nets:Net", {}, "missing a required argument: 'width'"),
        ("theirs.nets:broken", {}, "RuntimeError: no luck (nets.py, line 15)"),
        ("theirs.nets:leaves", {}, "SystemExit"),
        ("theirs.nets:number", {}, "returned 'int'"),
        ("theirs.nets:lazy", {}, "'1.weight' has no size yet"),
        ("theirs.nets:VALUE", {}, "is 'int', not a function"),
        ("theirs.nets:made", {"width": 3}, "leave --model-args out"),
    ],
)
def test_what_builds_no_network_is_refused_in_one_line(place, arguments, expected, package):
    with pytest.raises(UserError) as caught:
        build_outside(place, arguments)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_normalisation_is_a_layer_and_keeps_what_is_prunable():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(2))
    normalized = Normalized(network, [0.5, 0.25], [0.5, 0.25])
    x = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    assert normalized(x).tolist() == [[0.0, 1.0]]
    assert normalized.prunable() == ["network.1.weight"]
    assert not nonzeros(normalized)["network.1.weight"].equal(torch.ones(2, 2, dtype=torch.bool))
    for mean, std in (([0.5], [0.0]), ([0.5], [-1.0]), ([0.1, 0.2], [1.0])):
        with pytest.raises(UserError, match="--mean and --std"):
            Normalized(network, mean, std)


def test_the_mask_is_what_is_not_zero_and_full_tensors_are_left_out():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
        network[1].weight.fill_(2.0)
    mask = nonzeros(network)
    assert list(mask) == ["0.weight"]
    assert mask["0.weight"].tolist() == [[False, True], [True, False]]


def test_masks_of_torch_are_put_into_the_weights_and_answers_stay():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    prune.l1_unstructured(network[0], "weight", amount=12)
    prune.random_unstructured(network[0], "bias", amount=1)
    prune.identity(network[2], "weight")
    x = torch.rand(3, 4)
    before = network(x)
    assert settle_masks_(network) == 3 and settle_masks_(network) == 0
    assert torch.equal(network(x), before)
    assert nonzeros(network).num_kept() == 4
    assert set(dict(network.named_parameters())) >= {"0.weight", "0.bias", "2.weight"}


class Says(nn.Module):
    def __init__(self, say):
        super().__init__()
        self.say = say

    def forward(self, x):
        return self.say(x)


def test_an_answer_must_be_a_table_of_logits():
    x = torch.zeros(2, 3, 4, 5)
    assert check_answers(Says(lambda x: x.new_zeros(len(x), 7)), x) == 7
    wrong = [
        (lambda x: x.new_zeros(len(x), 1), "at least 2"),
        (lambda x: (x,), "tuple"),
        (lambda x: x.mean(), "must return logits"),
        (lambda x: x.new_zeros(1, 7), "must return logits"),
        (nn.Linear(3, 2), "images of 3 x 4 x 5"),
    ]
    for say, expected in wrong:
        with pytest.raises(UserError, match=expected) as caught:
            check_answers(Says(say), x)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_batches_of_one_size_give_the_answers_of_any_size(count):
    sizes = []

    def network(x):
        sizes.append(len(x))
        return x.flatten(1) * 2

    x = torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_batches_of(network, x, 3), x.flatten(1) * 2)
    assert set(sizes) == {3}
