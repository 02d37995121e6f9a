"""AutoAttack in l1: Auto-PGD with its larger balls, the Square Attack's moves, and the preset."""

import importlib.util

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from wiry.attacks.apgd import APGD
from wiry.attacks.apgd_l1 import sparse_signs, start_l1, steps_of
from wiry.attacks.presets import autoattack, protocol_of
from wiry.attacks.projections import lengths
from wiry.attacks.square import Square
from wiry.attacks.square_l1 import bumps_l1, mound_l1, propose_l1
from wiry.attacks.square_l1 import start_l1 as start_of_square
from wiry.core.draws import draws_of
from wiry.core.rng import stream


class Linear(nn.Module):
    """Two classes whose logits are linear in 36 pixels; grey has no class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 36, generator=stream(0, "linear")))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


def images(n: int) -> Tensor:
    """Pixels all over the box and at its bounds."""
    drawn = torch.rand(n, 1, 6, 6, generator=stream(1, "images"))
    return (drawn * 1.4 - 0.2).clamp(0, 1)


def lead(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The label's logit minus the other."""
    with torch.no_grad():
        logits = model(x)
    return (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])).squeeze(1)


def largest_gain(model: Linear, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Spend the radius on the entries in the order of their weight, each up to its bound."""
    apart = (model.weight[1 - y] - model.weight[y]).detach()
    room = torch.where(apart > 0, 1 - x.flatten(1), x.flatten(1))
    order = apart.abs().argsort(dim=1, descending=True)
    spent = room.gather(1, order).cumsum(1).clamp(max=eps)
    spent = spent.diff(dim=1, prepend=torch.zeros(len(x), 1))
    return (spent * apart.abs().gather(1, order)).sum(1)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained for a second, and images it gets right."""
    values, labels = load_digits(return_X_y=True)
    x = torch.tensor(values, dtype=torch.float32).div(16).view(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(72, 10)),
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(8):
        for part in torch.randperm(1500, generator=stream(epoch, "order")).split(100):
            loss = nn.functional.cross_entropy(model(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = model(x[1500:]).argmax(1) == y[1500:]
    assert right.float().mean() > 0.85
    return model.eval(), x[1500:][right][:100], y[1500:][right][:100]


def test_steps_are_shared_among_the_balls_as_published():
    assert steps_of(100) == [30, 30, 40]
    assert steps_of(5) == [2, 2, 1]
    assert steps_of(1) == [1, 1, 1]


def test_a_step_moves_the_largest_entries_alike():
    gradient = torch.tensor([[3.0, -2.0, 1.0, 0.0], [0.0, 0.0, 0.0, -5.0]]).view(2, 1, 2, 2)
    signs = sparse_signs(gradient, torch.tensor([2, 3]))
    assert signs.flatten(1).tolist() == [[0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]]


def test_the_start_is_on_the_largest_ball_and_sparse():
    x = images(20)
    offset = start_l1(x, 0.5, stream(0, "start")) - x
    assert lengths(offset, "l1") == pytest.approx(torch.full((20,), 1.5).numpy(), abs=1e-4)
    assert (offset != 0).flatten(1).sum(1).max() < 20


@pytest.mark.parametrize("eps", [0.4, 1.0])
def test_apgd_reaches_the_known_optimum_of_a_linear_model(eps):
    model, x = Linear(), images(60)
    y = model(x).argmax(1)
    before, gain = lead(model, x, y), largest_gain(model, x, y, eps)
    safe, doomed = before > 1.001 * gain, before < 0.97 * gain
    assert safe.sum() > 5 and doomed.sum() > 5
    found = APGD(eps, "l1")(model, x, y, stream(0, "attack"))
    after = lead(model, found, y)
    assert bool((after[safe] > 0).all()) and bool((after[doomed] < 0).all())
    # the shortest step is a tenth of the radius, so the optimum is not met exactly
    assert bool((before - after > 0.97 * gain)[safe].all())
    assert lengths(found.double() - x, "l1").max() <= eps
    assert found.min() >= 0 and found.max() <= 1


def test_what_fools_only_in_the_larger_balls_is_not_returned():
    model, x = Linear(), images(60)
    y, eps = model(x).argmax(1), 0.5
    before = lead(model, x, y)
    between = (before > 1.01 * largest_gain(model, x, y, eps)) & (
        before < 0.9 * largest_gain(model, x, y, 2 * eps)
    )
    x, y = x[between], y[between]
    assert len(x) > 3
    assert bool((model(APGD(2 * eps, "l1")(model, x, y, stream(0))).argmax(1) != y).all())
    assert bool((model(APGD(eps, "l1")(model, x, y, stream(0))).argmax(1) == y).all())


@pytest.mark.parametrize(
    "attack",
    [
        APGD(1.5, "l1", steps=20, restarts=2),
        APGD(1.5, "l1", steps=20, loss="targeted-dlr", num_targets=2),
        APGD(1.5, "l1", steps=6, loss="dlr", num_passes=2),
        Square(1.5, "l1", num_queries=60),
    ],
    ids=repr,
)
def test_results_do_not_depend_on_the_batch(attack, digits):
    model, x, y = digits
    index = torch.arange(24)
    whole = attack(model, x[:24], y[:24], draws_of(0, "attack", index=index))
    parts = [
        attack(model, x[part], y[part], draws_of(0, "attack", index=part))
        for part in index.split(7)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)
    assert lengths(whole.double() - x[:24], "l1").max() <= 1.5


def test_the_mound_is_written_out_and_bumps_have_length_one():
    ring = 1 / 16
    expected = torch.full((3, 3), ring)
    expected[1, 1] += 1
    torch.testing.assert_close(mound_l1(3, 3, torch.zeros(1)), expected / expected.sum())
    bumps = bumps_l1(5, images(8), draws_of(0, "bumps", index=torch.arange(8)))
    assert bumps.shape == (8, 1, 5, 5)
    torch.testing.assert_close(bumps.abs().sum((1, 2, 3)), torch.ones(8))
    assert len({tuple(bump.flatten().tolist()) for bump in bumps}) == 2  # turned and not


def test_a_proposal_stays_in_the_ball_and_changes_two_windows_at_most():
    x = torch.rand(30, 3, 12, 12, generator=stream(0, "images"))
    draws = draws_of(0, "square", index=torch.arange(30))
    best = start_of_square(x, 4.0, draws)
    for _ in range(20):
        point = propose_l1(x, best, eps=4.0, side=3, draws=draws)
        assert lengths(point.double() - x, "l1").max() <= 4
        assert point.min() >= 0 and point.max() <= 1
        best = point
    first = propose_l1(x, x.clone(), eps=4.0, side=3, draws=draws)
    assert ((first != x).flatten(1).sum(1) <= 27).all() and (first != x).any()


def test_square_finds_most_of_what_auto_pgd_finds(digits):
    model, x, y = digits
    with torch.no_grad():
        apgd = model(APGD(2.0, "l1", restarts=2)(model, x, y, stream(0))).argmax(1) != y
        square = model(Square(2.0, "l1", num_queries=600)(model, x, y, stream(0))).argmax(1) != y
    assert 20 < apgd.sum() < 95
    assert not bool((square & ~apgd).any())
    assert square.sum() > 0.6 * apgd.sum()


def test_the_preset_has_the_published_budgets():
    ce, targeted, fab, square = autoattack(12.0, "l1")
    assert (ce.restarts, targeted.num_targets, targeted.restarts) == (5, 5, 1)
    assert (fab.num_targets, square.num_queries) == (9, 5000)
    for version in ("standard", "plus", "rand"):
        attacks = autoattack(12.0, "l1", version)
        assert {attack.norm for attack in attacks} == {"l1"}
        assert protocol_of(attacks, cascade=True) == f"AutoAttack ({version})"


@pytest.mark.skipif(
    importlib.util.find_spec("pyautoattack") is None, reason="needs pyautoattack 0.2.0"
)
@pytest.mark.parametrize("eps", [1.0, 2.0])
def test_verdicts_are_those_of_the_reference(eps, digits):
    from pyautoattack.autopgd_base import APGDAttack  # type: ignore[reportMissingImports]

    model, x, y = digits
    with torch.random.fork_rng(devices=[]):
        reference = APGDAttack(model, norm="L1", eps=eps, n_restarts=2, use_largereps=True)
        theirs = model(reference.perturb(x, y)).argmax(1) == y
    ours = model(APGD(eps, "l1", restarts=2)(model, x, y, stream(0))).argmax(1) == y
    assert 5 < theirs.sum() < 95
    assert (ours != theirs).sum() <= 1
