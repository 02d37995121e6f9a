"""DeepFool and RAND+FGSM: what is known of both on models that can be solved by hand."""

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.deepfool import DeepFool, cross_boundary
from wiry.attacks.fgsm import FGSM
from wiry.attacks.projections import lengths
from wiry.attacks.rfgsm import RFGSM
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream


class Linear(nn.Module):
    """Logits that are linear in 16 pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        draw = torch.randn(num_classes, 16, generator=stream(0, "linear"))
        self.weight = nn.Parameter(draw)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


class Counting(nn.Module):
    """A network that notes how many images each call has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.sizes = inner, []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.inner(x)


def images(n: int = 40) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=stream(1, "images")) * 0.4 + 0.3


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5)
        ).eval()  # fmt: skip


@pytest.mark.parametrize("num_classes", [2, 5])
def test_distance_on_a_linear_model_is_that_of_the_nearest_face_plus_overshoot(num_classes):
    """Corollary (iii): |f| / |w|, in one step."""
    model, x = Counting(Linear(num_classes)), images()
    found, crossed, predicted = cross_boundary(model, x, overshoot=0.02)
    logits, weight = model.inner(x).detach(), model.inner.weight.detach()
    apart = (weight[None] - weight[predicted][:, None]).norm(dim=2)
    own = logits.gather(1, predicted[:, None])
    faces = ((own - logits) / apart).scatter(1, predicted[:, None], torch.inf)
    torch.testing.assert_close(lengths(found - x, "l2"), 1.02 * faces.amin(1))
    assert crossed.all() and torch.equal(predicted, logits.argmax(1))
    assert torch.equal(model.inner(found).topk(2).indices[:, 1], predicted)


def test_the_label_really_flips_and_the_way_is_not_longer_than_to_any_sampled_point():
    model, x = network(), images()
    found, crossed, predicted = cross_boundary(model, x)
    assert crossed.all() and (model(found).argmax(1) != predicted).all()
    distance = lengths(found - x, "l2")
    for seed in range(50):
        direction = torch.randn(x.shape, generator=stream(seed, "direction"))
        step = direction / lengths(direction, "l2").view(-1, 1, 1, 1)
        there = model(x + 0.9 * distance.view(-1, 1, 1, 1) * step).argmax(1)
        assert torch.equal(there, predicted)


def test_fooled_images_leave_the_batch_and_the_number_of_steps_is_kept():
    model = Counting(network())
    cross_boundary(model, images(200), steps=20)
    during = model.sizes[1:]  # after the prediction
    assert during[0] == 200 and during == sorted(during, reverse=True) and during[-1] < 200
    stubborn = Counting(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    stubborn.inner[1].weight.data.zero_()
    stubborn.inner[1].bias.data.copy_(torch.tensor([1.0, 0.0, 0.0]))
    _, crossed, _ = cross_boundary(stubborn, images(4), steps=3)
    assert not crossed.any() and stubborn.sizes[1:] == [4, 4] * 3


def test_an_image_on_the_boundary_gets_across():
    model = Linear(2)
    grey = torch.full((1, 1, 4, 4), 0.5)
    found, crossed, _ = cross_boundary(model, grey)
    assert crossed.all() and lengths(found - grey, "l2") < 1e-3


def test_fewer_classes_look_at_the_likeliest_only():
    model, x = Linear(5), images()
    all_faces, _, _ = cross_boundary(model, x)
    two, crossed, _ = cross_boundary(model, x, num_classes=2)
    assert (lengths(two - x, "l2") >= lengths(all_faces - x, "l2") - 1e-6).all()
    assert crossed.all() and not torch.equal(two, all_faces)


def test_as_an_attack_it_keeps_to_its_ball_and_leaves_wrong_images_alone():
    model, x = network(), images()
    y = model(x).argmax(1)
    free, _, _ = cross_boundary(model, x)
    distance = lengths(free - x, "l2")
    eps = float(distance.quantile(0.4))
    y[:5] = (y[:5] + 1) % 5
    found = DeepFool(eps)(model, x, y, stream(0, "attack"))
    assert torch.equal(found[:5], x[:5])
    assert lengths(found - x, "l2").max() <= eps + 1e-6
    near = (distance < 0.999 * eps) & (free.flatten(1) >= 0).all(1) & (free.flatten(1) <= 1).all(1)
    near[:5] = False
    assert near.sum() > 5 and torch.equal(found[near], free[near])
    assert (model(found).argmax(1) != y)[near].all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_both_steps_of_rfgsm_together_are_eps_and_each_is_its_share(share):
    model, x = Linear(2), images()
    y = model(x).argmax(1)
    found = RFGSM(0.1, random_share=share)(model, x, y, stream(0, "attack"))
    moved = (found - x).abs().flatten()
    # every pixel went the same way twice or there and back: eps, or |2 share - 1| eps
    ends = torch.tensor([0.1, 0.1 * abs(2 * share - 1)])
    assert (moved[:, None] - ends).abs().amin(1).max() < 1e-6
    assert moved.max() == pytest.approx(0.1, abs=1e-6)
    both = 1.0 if share == 0 else 0.5
    assert ((moved - 0.1).abs() < 1e-6).float().mean() == pytest.approx(both, abs=0.07)


def test_rfgsm_without_its_random_step_is_fgsm():
    model, x = network(), images()
    y = model(x).argmax(1)
    one = RFGSM(0.05, random_share=0.0)(model, x, y, stream(0, "attack"))
    assert torch.equal(one, FGSM(0.05)(model, x, y, stream(0, "attack")))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "rfgsm", "norm": "l2"}, "norm must be 'linf', got 'l2'"),
        ({"name": "rfgsm", "random_share": 1}, r"random_share must be in \[0, 1\), got 1"),
        ({"name": "deepfool", "norm": "linf"}, "norm must be 'l2', got 'linf'"),
        ({"name": "deepfool", "steps": 0}, "steps must be at least 1"),
        ({"name": "deepfool", "num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"name": "deepfool", "overshoot": -1}, "overshoot must be at least 0, got -1"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        registry("attack").build(spec)
