"""Answers near images whose layers are kept are the network's own, after any number of changes."""

import pytest
import torch
from torch import fx, nn

from wiry.attacks.nearby import Nearby
from wiry.attacks.square import Square
from wiry.attacks.windows import Reach, Table, Window, put
from wiry.core.draws import draws_of


class Residual(nn.Module):
    """A strided block with a shortcut of a single place, then one with the identity."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.down, self.short = (
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.Conv2d(4, 6, 1, stride=2),
        )
        self.inner, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.stem((x - 0.5) / 0.25))
        x = torch.relu(self.down(x) + self.short(x))
        x = torch.relu(x + self.norm(self.inner(x)))
        return self.head(x.mean((2, 3)))


def traced(network):
    return fx.symbolic_trace(network.eval().requires_grad_(False))


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def plain():
    layers = [
        nn.Conv2d(2, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, (5, 3), padding=(2, 0)),
    ]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(5))


def leaving_the_end_out():
    layers = [nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)]
    return nn.Sequential(*layers)


def rectangular():
    layers = [nn.Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(0, 1)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(3, 3, 3, padding=2), nn.Flatten(), nn.LazyLinear(4))


@pytest.mark.parametrize("side", [1, 2, 3, 5])
@pytest.mark.parametrize("make", [Residual, plain, leaving_the_end_out, rectangular])
def test_answers_are_the_networks_while_squares_are_kept_and_images_leave(make, side):
    network = seeded(make)
    with torch.no_grad():
        network(torch.zeros(1, 2, 24, 20))  # gives lazy layers their size
        network = traced(network)
        generator = torch.Generator().manual_seed(side)
        best = torch.rand(7, 2, 24, 20, generator=generator)
        near = Nearby(network, best.clone(), side)
        assert near.plan.reaches, "no layer follows the square"
        for step in range(12):
            rows = torch.randint(len(best), (9,), generator=generator)
            top = torch.randint(24 - side + 1, (9,), generator=generator)
            left = torch.randint(20 - side + 1, (9,), generator=generator)
            points = best[rows].clone()
            for point, i, j in zip(points, top.tolist(), left.tolist(), strict=True):
                point[:, i : i + side, j : j + side] = torch.rand(2, 1, 1, generator=generator)
            found = near.answers(points, rows, top, left)
            torch.testing.assert_close(found, network(points), rtol=1e-4, atol=1e-5)
            kept = torch.tensor([int((rows == row).nonzero()[0]) for row in rows.unique()])[:4]
            best[rows[kept]] = points[kept]
            near.keep(kept)
            if step == 5:
                going = torch.arange(7) != 3
                best = best[going]
                near.select(going)


def test_only_traced_networks_with_enough_to_save_are_followed():
    network, x = seeded(Residual), torch.rand(2, 2, 24, 20)
    assert Nearby.of(network, x, 2) is None
    with torch.no_grad():
        assert Nearby.of(traced(network), x, 2) is not None
        assert Nearby.of(traced(network), x, 20) is None


def test_a_network_that_looks_at_the_whole_image_first_is_not_followed():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.LazyLinear(3))

        def forward(self, x):
            return self.body(x - x.mean((2, 3), keepdim=True))

    with torch.no_grad():
        network = seeded(Centred)
        network(torch.zeros(1, 2, 16, 16))
        assert Nearby.of(traced(network), torch.rand(2, 2, 16, 16), 2) is None


def test_an_odd_answer_is_noticed(monkeypatch):
    network, x = traced(seeded(Residual)), torch.rand(2, 2, 24, 20)
    with torch.no_grad():
        assert Nearby.of(network, x, 2) is not None
        monkeypatch.setattr("wiry.attacks.nearby.put", lambda *_, **__: None)
        assert Nearby.of(network, x, 2) is None


def test_square_finds_the_same_with_a_traced_network():
    network = seeded(Residual).eval().requires_grad_(False)
    x = torch.rand(8, 2, 24, 20, generator=torch.Generator().manual_seed(2))
    y = network(x).argmax(1)
    attack, draws = Square(0.03, num_queries=300), draws_of(0, index=torch.arange(8))
    expected = attack(network, x, y, draws)
    found = attack(traced(network), x, y, draws_of(0, index=torch.arange(8)))
    torch.testing.assert_close(found, expected)


def test_a_window_grows_by_what_a_kernel_reaches():
    reach = Reach((3, 3), (2, 2), (1, 1))
    assert reach.outputs((8, 8)) == (4, 4)
    assert reach.grown((2, 2), (4, 4)) == (2, 2)
    first = reach.first(torch.tensor([0, 3, 6]), 0, 2, 4)
    assert first.tolist() == [0, 1, 2]  # input row 3 is seen by outputs 1 and 2, the last is 3
    assert reach.looked_at((2, 2)) == (5, 5)
    assert Reach((1, 1), (2, 2), (0, 0)).skips((8, 8))
    assert Reach((3, 3), (2, 2), (0, 0)).skips((8, 8))  # the last row and column
    assert not Reach((3, 3), (2, 2), (0, 0)).skips((7, 7))


def test_a_table_gives_and_takes_parts_at_their_places():
    table = Table(torch.arange(16.0).view(1, 1, 4, 4), (1, 1))
    image, corner = torch.tensor([0]), torch.tensor([-1])
    assert table.patch(image, corner, corner, (2, 2)).flatten().tolist() == [0, 0, 0, 0]
    new = Window(torch.full((1, 1, 2, 2), -5.0), torch.tensor([1]), torch.tensor([2]))
    table.write(image, new)
    zero = torch.tensor([0])
    wanted = [[0, 1, 2, 3], [4, 5, -5, -5], [8, 9, -5, -5], [12, 13, 14, 15]]
    patch = table.patch(image, zero, zero, (4, 4))
    assert patch.view(4, 4).tolist() == wanted
    put(patch, Window(new.values, torch.tensor([3]), torch.tensor([-1])), zero, zero, cut=True)
    assert patch.view(4, 4)[3].tolist() == [-5, 13, 14, 15]
