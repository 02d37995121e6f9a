"""The adapter to auto_LiRPA: with a stand-in that is exact on linear models, and with the real one.

The stand-in shows that the adapter asks the right question and reads the answer right; what the
package itself computes is compared with wiry's bounds where it is installed.
"""

import importlib
import math
import sys
import types
import warnings

import pytest
import torch
from tests.bounds.nets import images, network
from torch import Tensor, nn

from wiry.bounds.certify import certified, margins
from wiry.bounds.lirpa import _prepared, lirpa_certified, lirpa_margins
from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.examine import measured
from wiry.evaluation.measures.lirpa import Lirpa
from wiry.evaluation.subject import Subject
from wiry.models.base import Normalize


class StandInBall:
    def __init__(self, norm, eps, x_L=None, x_U=None):
        self.norm, self.eps, self.low, self.high = norm, eps, x_L, x_U


class StandInTensor:
    def __init__(self, data, ball):
        self.data, self.ball = data, ball


class StandIn:
    """Exact bounds of C @ logits of a linear model; keeps what it was asked."""

    lost = 0.0  # added to one logit: a package that misreads the network
    refuses = False
    asked: list = []  # noqa: RUF012

    def __init__(self, model, example, device):
        if StandIn.refuses:
            raise NotImplementedError("no such operator")
        self.model, self.shape = model, example.shape
        assert not model.training and example.device == device

    def compute_bounds(self, x, C, method, bound_upper):
        ((point,), ball) = x, x[0].ball
        assert point.data.shape == self.shape and not bound_upper
        if ball.eps > 1e-3:  # smaller ones are trials
            StandIn.asked.append((method, torch.is_grad_enabled(), ball))
        lost = torch.zeros(C.shape[2]).index_fill_(0, torch.tensor([1]), StandIn.lost)
        weight = C @ self.model[-1].weight
        if ball.norm == 2:
            centre = (C @ (self.model(point.data) + lost)[..., None])[..., 0]
            return centre - ball.eps * weight.norm(dim=2), None
        assert ball.norm == math.inf
        low, high = ball.low.flatten(1)[:, None], ball.high.flatten(1)[:, None]
        best = torch.where(weight > 0, weight * low, weight * high).sum(2)
        return best + C @ (self.model[-1].bias + lost), None


@pytest.fixture
def stand_in(monkeypatch):
    library = types.ModuleType("auto_LiRPA")
    library.BoundedModule, library.BoundedTensor = StandIn, StandInTensor
    perturbations = types.ModuleType("auto_LiRPA.perturbations")
    perturbations.PerturbationLpNorm = StandInBall
    monkeypatch.setitem(sys.modules, "auto_LiRPA", library)
    monkeypatch.setitem(sys.modules, "auto_LiRPA.perturbations", perturbations)
    monkeypatch.setattr(StandIn, "asked", [])


def linear(num_classes: int = 4) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, num_classes))
    generator = stream(0, "weights")
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def points(n: int = 7) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 1, 3, 3, generator=stream(0, "x"))
    return x, torch.randint(0, 4, (n,), generator=stream(0, "y"))


def test_in_linf_the_box_is_cut_and_margins_stand_at_their_classes(stand_in):
    model, (x, y) = linear(), points()
    found = lirpa_margins(model, x, y, 0.3, "crown", batch_size=3)
    (expected,) = margins(model, x, y, 0.3, "ibp")  # exact on linear models
    torch.testing.assert_close(found, expected.detach())
    assert (found.gather(1, y[:, None]) == 0).all()
    assert [method for method, _, _ in StandIn.asked] == ["CROWN"] * 3
    proven = lirpa_certified(model, x, y, 0.02, "crown")
    assert proven.tolist() == certified(model, x, y, 0.02).tolist()
    assert len(set(proven.tolist())) == 2


def test_in_l2_the_margin_falls_by_eps_times_the_weights_length(stand_in):
    model, (x, y) = linear(), points()
    found = lirpa_margins(model, x, y, 0.5, "alpha-crown", norm="l2")
    weight, logits = model[1].weight.detach(), model(x).detach()
    rows = weight[y][:, None] - weight
    expected = logits.gather(1, y[:, None]) - logits - 0.5 * rows.norm(dim=2)
    torch.testing.assert_close(found, expected)
    ((method, with_gradients, ball),) = StandIn.asked
    assert (method, with_gradients, ball.norm) == ("alpha-CROWN", True, 2.0)


def test_the_model_comes_back_as_it_was(stand_in):
    model, (x, y) = linear().train(), points()
    lirpa_margins(model, x, y, 0.1, "ibp")
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("lost", [0.5, -0.5])
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_bounds_that_do_not_hold_at_the_images_are_not_believed(
    stand_in, monkeypatch, lost, method
):
    monkeypatch.setattr(StandIn, "lost", lost)
    with pytest.raises(UserError, match=r"a lower bound is 0\.5 above the logit"):
        lirpa_margins(linear(), *points(), 0.1, method)


def test_a_network_that_the_package_refuses_is_named(stand_in, monkeypatch):
    monkeypatch.setattr(StandIn, "refuses", True)
    with pytest.raises(
        UserError, match="cannot take this network: NotImplementedError: no such operator"
    ):
        lirpa_margins(linear(), *points(), 0.1, "ibp")


def test_the_package_sees_a_convolution_in_the_place_of_a_normalisation():
    model, (x, _) = network("resnet18"), images("resnet18")
    seen = _prepared(model)
    assert isinstance(seen.normalize, nn.Conv2d) and isinstance(model.normalize, Normalize)
    torch.testing.assert_close(seen.normalize(x), model.normalize(x))
    torch.testing.assert_close(seen(x), model(x).detach(), rtol=1e-3, atol=1e-3)
    assert not any(p.requires_grad for p in seen.parameters())


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(UserError, match="pip install --no-deps git"):
        lirpa_margins(linear(), *points(), 0.1, "crown")
    with pytest.raises(UserError, match="no method 'magic' in 'linf'"):
        lirpa_margins(linear(), *points(), 0.1, "magic")


def subject(**changes) -> Subject:
    model, (x, y) = linear(), points()
    settings = {"eps": 0.02, "norm": "linf", **changes}
    return Subject(model, x, y, model(x).argmax(1) == y, 4, ("a", "b", "c", "d"), **settings)


def test_the_measure_counts_what_is_proven(stand_in):
    one = subject()
    ((_, found),) = measured(one, [Lirpa(num_samples=5, batch_size=2)])
    expected = certified(one.model, one.x[:5], one.y[:5], 0.02)
    assert found.arrays["certified"].tolist() == expected.tolist()
    assert found.values == {
        "certified_accuracy": pytest.approx(float(expected.float().mean())),
        "eps": 0.02,
        "norm": "linf",
    }
    with pytest.raises(UserError, match="give its fields `norm` and `eps`"):
        measured(one, [Lirpa(norm="l2")])
    with pytest.raises(UserError, match="in l1"):
        measured(subject(norm="l1"), ["lirpa"])


def real() -> None:
    """Skip the test where the package cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("auto_LiRPA")
        except ImportError as error:
            pytest.skip(f"auto_LiRPA cannot be imported: {error}")


@pytest.mark.parametrize("name", ["mlp", "cnn-small", "lenet5"])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_the_package_agrees_with_our_bounds(name, method):
    real()
    model, (x, y) = network(name), images(name)
    for eps in (0.002, 0.02):
        (ours,) = margins(model, x, y, eps, method)
        theirs = lirpa_margins(model, x, y, eps, method)
        torch.testing.assert_close(theirs, ours.detach(), rtol=1e-3, atol=1e-4)


def test_the_packages_crown_is_tighter_and_below_what_is_found_by_sampling():
    real()
    model, (x, y) = network("mlp"), images("mlp")
    wrong = torch.arange(5) != y[:, None]
    loose, crown, alpha = (
        lirpa_margins(model, x, y, 0.05, method)[wrong].mean()
        for method in ("crown-ibp", "crown", "alpha-crown")
    )
    assert loose < crown <= alpha + 1e-5
    for norm in ("linf", "l2"):
        bound = lirpa_margins(model, x, y, 0.1, "crown", norm=norm)
        for seed in range(30):
            step = torch.randn(x.shape, generator=stream(seed, "step"))
            step = (
                step.sign()
                if norm == "linf"
                else step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            )
            point = x + 0.1 * step
            logits = model(point.clamp(0, 1) if norm == "linf" else point).detach()
            assert (logits.gather(1, y[:, None]) - logits >= bound - 1e-4).all()
