"""Looking several proposals ahead finds what one proposal after the other finds."""

import pytest
import torch
from torch import nn

from wiry.attacks import random_search
from wiry.attacks.losses import margin
from wiry.attacks.square import Square
from wiry.core.draws import draws_of

SHAPE = (2, 8, 8)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


def images(model, num=12):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x = torch.rand(num, *SHAPE)
    return x, model(x).argmax(1)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.9), ("l1", 6.0)])
def test_looking_ahead_changes_nothing(model, monkeypatch, norm, eps):
    x, y = images(model)
    attack, found, num_calls = Square(eps, norm, num_queries=150), [], []
    for rows, waste in ((1, 0.0), (64, 0.5)):
        monkeypatch.setattr(random_search, "_ROWS", {"cpu": rows})
        monkeypatch.setattr(random_search, "_WASTE", {"cpu": waste})
        calls = []
        hook = model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        found.append(attack(model, x, y, draws_of(0, index=torch.arange(len(x)))))
        hook.remove()
        num_calls.append(len(calls))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    assert 0 < int((model(found[0]).argmax(1) == y).sum()) < len(x)
    assert num_calls[1] < 0.7 * num_calls[0]


def one_after_the_other(model, x, y, eps, num_queries, key):
    """The linf form for one image, written line by line after Algorithms 1 and 2 of the paper."""
    draws = draws_of(0, index=torch.tensor([key]))
    attack = Square(eps, num_queries=num_queries)
    best = (x + eps * draws.signs(SHAPE[0], 1, SHAPE[2])[0]).clamp(0, 1)
    loss = margin(model(best[None]), y[None])
    for query in range(1, num_queries):
        if loss > 0:
            break
        side = attack.side(query, *SHAPE[1:])
        top, left = (draws.uniform(2)[0] * (SHAPE[1] - side + 1)).long().tolist()
        signs = draws.signs(SHAPE[0], 1, 1)[0]
        point = best.clone()
        square = (..., slice(top, top + side), slice(left, left + side))
        point[square] = (x[square] + eps * signs).clamp(0, 1)
        tried = margin(model(point[None]), y[None])
        if tried > loss:
            best, loss = point, tried
    return best


@pytest.mark.parametrize("last", [False, True])
def test_square_takes_the_path_of_the_paper(model, last):
    x, y = images(model, 6)
    given = x.contiguous(memory_format=torch.channels_last) if last else x
    draws = draws_of(0, index=torch.arange(6))
    found = Square(0.05, num_queries=120)(model, given, y, draws)
    for key in range(6):
        expected = one_after_the_other(model, x[key], y[key], 0.05, 120, key)
        torch.testing.assert_close(found[key], expected, rtol=0, atol=1e-6)


def test_depth_follows_how_often_proposals_are_kept(model):
    x, y = images(model)
    search = random_search._Search(
        model, x, y, x, draws_of(0, index=torch.arange(12)), lambda *_: x, 3
    )
    search.kept_share = 0.5
    assert search._depth(4, 100) == 1
    search.kept_share = 0.01
    assert search._depth(4, 100) == 16  # as many as fill the rows
    assert search._depth(4, 3) == 3  # no more than are left
    assert search._depth(100, 100) == 1
