"""FAB finds the nearest boundary: its step against linear programmes, its reach by closed form."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from wiry.attacks.fab import FAB
from wiry.attacks.hyperplane import onto_hyperplane
from wiry.core.rng import stream

NORMS = ("linf", "l2", "l1")


def case(num=6, size=12):
    generator = stream(0, "fab")
    point = torch.rand(num, size, generator=generator, dtype=torch.float64)
    normal = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return point, normal, torch.randn(num, generator=generator, dtype=torch.float64)


def shortest(point, normal, gap, norm):
    """Return the length of the shortest way as a linear programme finds it (linf and l1)."""
    size = len(point)
    if norm == "l1":
        bounds = [(0, 1 - p) for p in point] + [(0, p) for p in point]
        return linprog(
            np.ones(2 * size), A_eq=[np.r_[normal, -normal]], b_eq=[gap], bounds=bounds
        ).fun
    upper = np.c_[np.eye(size), -np.ones(size)]
    lower = np.c_[-np.eye(size), -np.ones(size)]
    return linprog(
        np.r_[np.zeros(size), 1],
        A_ub=np.r_[upper, lower],
        b_ub=np.zeros(2 * size),
        A_eq=[np.r_[normal, 0]],
        b_eq=[gap],
        bounds=[*((-p, 1 - p) for p in point), (0, None)],
    ).fun


@pytest.mark.parametrize("norm", NORMS)
def test_the_way_meets_the_plane_inside_the_box(norm):
    point, normal, gap = case()
    way = onto_hyperplane(point, normal, gap, norm)
    assert torch.allclose((normal * way).sum(1), gap, atol=1e-9)
    assert -1e-12 <= float((point + way).min()) and float((point + way).max()) <= 1 + 1e-12


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_the_way_is_as_short_as_a_linear_programme_finds(norm):
    point, normal, gap = case()
    ways = onto_hyperplane(point, normal, gap, norm)
    order = {"linf": np.inf, "l1": 1}[norm]
    for p, n, g, way in zip(point, normal, gap, ways, strict=True):
        wanted = shortest(p.numpy(), n.numpy(), float(g), norm)
        assert np.linalg.norm(way.numpy(), order) == pytest.approx(wanted, rel=1e-6)


def test_the_l2_way_is_the_foot_of_the_perpendicular_where_the_box_is_far():
    normal = torch.tensor([[3.0, 4.0]])
    way = onto_hyperplane(torch.full((1, 2), 0.5), normal, torch.tensor([1.0]), "l2")
    assert torch.allclose(way, normal / 25)


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_every_pixel_goes_to_its_bound(norm):
    point = torch.tensor([[0.25, 0.75]])
    way = onto_hyperplane(point, torch.tensor([[1.0, -2.0]]), torch.tensor([100.0]), norm)
    assert torch.allclose(point + way, torch.tensor([[1.0, 0.0]]))


class Linear(nn.Module):
    """Two classes of a 1x2x2 image with a margin that is linear in the pixels."""

    normal = torch.tensor([0.5, -0.25, 0.125, 0.5])

    def forward(self, x):
        lead = (x - 0.5).flatten(1) @ self.normal
        return torch.stack([0.06 - lead, lead - 0.06], 1)


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_it_succeeds_just_above_the_closed_form_distance(norm):
    """From the grey image the lead must grow by 0.06: that over the dual norm of the normal."""
    order = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    distance = 0.06 / np.linalg.norm(Linear.normal.numpy(), order)
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    above = FAB(1.02 * distance, norm)(Linear(), x, y, stream(0))
    below = FAB(0.98 * distance, norm)(Linear(), x, y, stream(0))
    assert Linear()(above).argmax(1).item() == 1
    assert torch.equal(below, x)
