"""Nothing in the ball leaves the bounds: random points, corners, attacks; every kind of model."""

import pytest
import torch
from tests.bounds.nets import MODELS, images, network

from wiry.attacks.pgd import PGD
from wiry.bounds.certify import certified, margins
from wiry.bounds.graph import trace
from wiry.bounds.interval import ball, interval_bounds, propagate
from wiry.core.rng import stream

SLACK = 1e-4  # float32 rounding; margins of the networks here are of order 1 to 100
CERTIFIABLE = {"mlp": 0.004, "cnn-small": 0.02, "resnet18": 1e-7, "lenet5": 1e-4}
over_models = pytest.mark.parametrize("name", MODELS)


def points_of_the_ball(x, eps, *, seed, num=6):
    """Return random points and random corners of the ball, cut to [0, 1], num times all images."""
    generator = stream(seed, "points")
    noise = torch.rand(num, *x.shape, generator=generator) * 2 - 1
    noise[num // 2 :] = noise[num // 2 :].sign()
    return (x + eps * noise).clamp(0, 1)


def margins_of(model, x, y):
    logits = model(x)
    return logits.gather(1, y[:, None]) - logits


def check_inside(model, x, y, eps, bounds):
    scale = 1 + max(float(bound.abs().max()) for bound in bounds)
    found = margins_of(model, x, y)
    for bound in bounds:
        assert bool((found >= bound - SLACK * scale).all())


@over_models
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eps", [0.0, 0.003, 0.05])
def test_no_point_of_the_ball_has_a_margin_below_the_bounds(name, seed, eps):
    model, (x, y) = network(name, seed), images(name, seed=seed)
    with torch.no_grad():
        bounds = margins(model, x, y, eps, "ibp", "crown-ibp")
        for points in points_of_the_ball(x, eps, seed=seed):
            check_inside(model, points, y, eps, bounds)
    for bound in bounds:
        assert bound.shape == (3, 5) and not bound.gather(1, y[:, None]).any()


@over_models
@pytest.mark.parametrize("eps", [0.003, 0.05])
def test_no_attack_gets_a_margin_below_the_bounds(name, eps):
    model, (x, y) = network(name), images(name)
    found = PGD(eps, steps=20, loss="margin")(model, x, y, stream(0, "attack"))
    with torch.no_grad():
        check_inside(model, found, y, eps, margins(model, x, y, eps, "ibp", "crown-ibp"))


@over_models
def test_the_bound_is_near_what_an_attack_finds_when_the_ball_is_small(name):
    """A bound of minus infinity would be sound too; nearly all rectifiers are decided here."""
    model, (x, y) = network(name), images(name)
    eps = 1e-9
    model, x = model.double(), x.double()
    clean = margins_of(model, x, y).detach()
    (bound,) = margins(model, x, y, eps, "crown-ibp")
    for j in range(5):
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(margins_of(model, point, y)[:, j].sum(), point)
        worst = (x - eps * gradient.sign()).clamp(0, 1)
        reached = margins_of(model, worst, y)[:, j].detach() - clean[:, j]
        allowed = bound[:, j].detach() - clean[:, j]
        assert bool((allowed <= reached + 1e-11).all())
        assert bool((allowed >= 1.02 * reached - 1e-11).all())


@over_models
def test_values_at_every_step_lie_in_its_box(name):
    model, (x, _) = network(name), images(name)
    graph = trace(model)
    with torch.no_grad():
        boxes = propagate(graph, ball(x, 0.02))
        for points in points_of_the_ball(x, 0.02, seed=1, num=4):
            values = propagate(graph, ball(points, 0.0))
            for value, box in zip(values, boxes, strict=True):
                slack = SLACK * (1 + float(box.upper.abs().max()))
                assert bool((value.lower >= box.lower - slack).all())
                assert bool((value.upper <= box.upper + slack).all())


@over_models
def test_boxes_of_radius_zero_are_the_forward_pass(name):
    model, (x, y) = network(name), images(name)
    with torch.no_grad():
        named = interval_bounds(model, x, 0.0)
        logits = named[-1][1]
        torch.testing.assert_close(logits.lower, model(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits.lower, logits.upper)
        assert named[0][0] == "image"
        for bound in margins(model, x, y, 0.0, "ibp", "crown-ibp"):
            torch.testing.assert_close(bound, margins_of(model, x, y), rtol=1e-3, atol=1e-3)


@over_models
def test_bounds_widen_with_the_radius(name):
    model, (x, y) = network(name), images(name)
    wrong = torch.arange(5) != y[:, None]
    with torch.no_grad():
        small, large = (margins(model, x, y, eps, "ibp")[0] for eps in (0.01, 0.03))
    assert bool((large < small)[wrong].all())


@over_models
@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_gradients_of_bounds_agree_with_finite_differences(name, method):
    model, (x, y) = network(name).double(), images(name)
    x, weight = x.double(), model.head.weight
    first = next(p for p in model.parameters() if p.dim() > 1)

    def value():
        return margins(model, x, y, 0.02, method)[0].sum()

    gradients = torch.autograd.grad(value(), [first, weight])
    for parameter, gradient in zip([first, weight], gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=stream(2, name)).double()
        step = 1e-7 * direction
        with torch.no_grad():
            parameter += step
            above = value()
            parameter -= 2 * step
            below = value()
            parameter += step
        slope = (above - below) / 2e-7
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-3, atol=1e-3)


@over_models
def test_what_ibp_certifies_crown_ibp_certifies_and_attacks_do_not_break(name):
    model, (x, _) = network(name), images(name, num=8)
    y, eps = model(x).argmax(1), CERTIFIABLE[name]
    by_ibp, by_crown = (certified(model, x, y, eps, method) for method in ("ibp", "crown-ibp"))
    assert not bool((by_ibp & ~by_crown).any())
    found = PGD(eps, steps=20)(model, x, y, stream(0, "attack"))
    assert bool((model(found).argmax(1) == y)[by_crown].all())
    assert bool(by_crown.any())
    assert not bool(certified(model, x, (y + 1) % 5, eps, "crown-ibp").any())


def test_certified_leaves_mode_and_gradients_as_found_and_takes_no_image():
    model, (x, y) = network("cnn-small").train(), images("cnn-small")
    model.head.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    whole = certified(model, x, y, 0.001, "crown-ibp")
    assert torch.equal(whole, certified(model, x, y, 0.001, "crown-ibp", batch_size=2))
    assert certified(model, x[:0], y[:0], 0.1).tolist() == []
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(isinstance(value, torch.Tensor) for value in vars(model).values())
    assert not any(module._forward_pre_hooks for module in model.modules())
