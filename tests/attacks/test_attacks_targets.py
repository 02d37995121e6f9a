"""Targeted searches cut into one attack a class: the same classes, and the same verdicts."""

import pytest
import torch
from torch import nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fab import FAB
from wiry.attacks.targets import wrong_classes
from wiry.core.draws import draws_of


def case():
    """Return a network whose classes meet near the images, and images that it gets right."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden, last = nn.Linear(16, 24), nn.Linear(24, 5)
        x = torch.rand(40, 1, 4, 4)
    hidden.weight.data.mul_(2)
    last.weight.data.mul_(2)
    model = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last).eval()
    return model, x, model(x).argmax(1)


def test_wrong_classes_come_in_the_order_of_their_logits():
    clean, y = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]]), torch.tensor([0, 1])
    every = wrong_classes(clean, y, num_targets=9, target_rank=None)
    assert [target.tolist() for target in every] == [[2, 3], [1, 2], [3, 0]]
    assert len(wrong_classes(clean, y, num_targets=2, target_rank=None)) == 2
    (second,) = wrong_classes(clean, y, num_targets=9, target_rank=1)
    assert second.tolist() == [1, 2]
    assert wrong_classes(clean, y, num_targets=9, target_rank=3) == []


def test_an_attack_has_as_many_parts_as_there_are_wrong_classes():
    assert [part.target_rank for part in FAB().parts(4)] == [0, 1, 2]
    assert [part.target_rank for part in APGD(loss="targeted-dlr").parts(100)] == list(range(9))
    for whole in (APGD(), FAB(targeted=False), FAB(target_rank=2)):
        assert whole.parts(10) == (whole,)
    with pytest.raises(ValueError, match="at least 0, the likeliest, got -1"):
        FAB(target_rank=-1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_parts_in_turn_find_what_the_whole_attack_finds(norm):
    model, x, y = case()
    whole = FAB({"linf": 0.06, "l2": 0.15}[norm], norm, steps=4)
    images = whole(model, x, y, draws_of(0, index=torch.arange(len(x))))
    found, standing, falls = x.clone(), torch.ones(len(x), dtype=torch.bool), []
    for part in whole.parts(5):
        left = standing.nonzero().squeeze(1)
        found[left] = part(model, x[left], y[left], draws_of(0, index=left))
        standing = model(found).argmax(1) == y
        falls.append(len(left) - int(standing.sum()))
    assert torch.equal(found, images)
    assert standing.any() and sum(fallen > 0 for fallen in falls) >= 2


def test_a_rank_beyond_the_wrong_classes_changes_nothing():
    model, x, y = case()
    for attack in (FAB(0.3, target_rank=4), APGD(0.3, loss="targeted-dlr", target_rank=4)):
        assert torch.equal(attack(model, x, y, draws_of(0, index=torch.arange(len(x)))), x)
