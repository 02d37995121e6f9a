"""Randomized smoothing: bounds by hand, the closed form of a linear model, a coin that abstains."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from wiry.core.draws import draws_of
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.evaluation.examine import measured
from wiry.evaluation.judge import NO_CLASS
from wiry.evaluation.measures.smoothing import Smoothing
from wiry.evaluation.smoothing import (
    Smoothed,
    certified_accuracy,
    certify_smoothed,
    clopper_pearson_lower,
    largest_radius,
)
from wiry.evaluation.subject import Subject

SIGMA = 0.5


class Half(nn.Module):
    """Two classes, parted by w'x = 0.3 |w|."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(9, generator=stream(0, "weight"))
        self.weight = nn.Parameter(weight / weight.norm() * 3)

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weight - 0.9
        return torch.stack([margin, -margin], 1)

    def distance(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.weight.detach() - 0.9) / 3


class Coin(nn.Module):
    """Says what the sign of the first pixel's noise is, whatever the image."""

    def forward(self, x: Tensor) -> Tensor:
        pixel = x.flatten(1)[:, :1] - 0.5
        return torch.cat([pixel, -pixel], 1)


def images(n: int = 60) -> Tensor:
    return torch.rand(n, 1, 3, 3, generator=stream(0, "images"))


def certify(model: nn.Module, x: Tensor, **changes) -> Smoothed:
    settings = {"sigma": SIGMA, "num_selection": 50, "num_estimation": 2000, "batch_size": 4096}
    draws = draws_of(0, "smoothing", index=torch.arange(len(x)))
    return certify_smoothed(model, x, draws=draws, **(settings | changes))


def test_clopper_pearson_bounds_written_out():
    """All of n: alpha^(1/n). One of n: 1 - (1 - alpha)^(1/n). None: 0. 9 of 10 at 5 %: tables."""
    assert float(clopper_pearson_lower(torch.tensor([100]), 100, 0.001)) == pytest.approx(
        0.001**0.01
    )
    assert float(clopper_pearson_lower(torch.tensor([1]), 50, 0.05)) == pytest.approx(
        1 - 0.95**0.02
    )
    assert clopper_pearson_lower(torch.tensor([0]), 50, 0.05).tolist() == [0.0]
    nine = float(clopper_pearson_lower(torch.tensor([9]), 10, 0.05))
    assert nine == pytest.approx(0.6058, abs=1e-4)
    assert 10 * nine**9 * (1 - nine) + nine**10 == pytest.approx(0.05)  # what defines it


def test_radii_of_a_linear_model_are_near_its_distances_and_seldom_above():
    """There P(class) = Phi(distance / sigma), so Certify's radius is a bound of the distance."""
    model, x = Half(), images()
    distance = model.distance(x)
    found = certify(model, x, alpha=0.01)
    near = distance.abs() < 0.05 * SIGMA
    expected = torch.where(distance > 0, 0, 1)
    assert (found.prediction[~near & ~found.abstained] == expected[~near & ~found.abstained]).all()
    apart = distance.abs() - found.radius
    assert float((apart < 0).double().mean()) <= 0.05  # 1 % are allowed to be
    share = torch.special.ndtr(distance.abs() / SIGMA)
    spread = (share * (1 - share) / 2000).sqrt()
    lowest = share - 6 * spread  # the bound is 2.3 below what was counted, that 3 off at most
    inside = (lowest > 0.5) & (distance.abs() < 0.8 * largest_radius(SIGMA, 2000, 0.01))
    assert inside.sum() > 30
    assert (found.radius >= SIGMA * torch.special.ndtri(lowest))[inside].all()


def test_a_coin_abstains_on_every_image():
    found = certify(Coin(), torch.full((20, 1, 1, 2), 0.5), sigma=1.0, num_estimation=500)
    assert found.abstained.all() and (found.prediction == NO_CLASS).all()
    assert found.radius.tolist() == [0.0] * 20


def test_certain_images_have_the_largest_radius_and_more_copies_raise_it():
    model, x = Half(), images(1) + 100 * Half().weight.detach().view(1, 1, 3, 3)
    found = certify(model, x, num_estimation=200)
    hand = SIGMA * NormalDist().inv_cdf(0.001 ** (1 / 200))
    assert found.radius.tolist() == [pytest.approx(hand)]
    assert largest_radius(SIGMA, 200, 0.001) == pytest.approx(hand)
    assert largest_radius(SIGMA, 100_000, 0.001) == pytest.approx(3.81 * SIGMA, abs=0.01)
    assert largest_radius(SIGMA, 1, 0.001) == 0.0


def test_answers_depend_neither_on_batches_nor_on_neighbours():
    model, x = Half(), images(7)
    whole = certify(model, x, num_estimation=300)
    for size in (37, 700):
        found = certify(model, x, num_estimation=300, batch_size=size)
        torch.testing.assert_close(found.lower, whole.lower)
    torch.testing.assert_close(
        certify(model, x[:2], num_estimation=300, batch_size=1).lower, whole.lower[:2]
    )


def test_noise_is_not_clipped_and_the_global_generator_is_left_alone():
    seen = []

    class Watch(Half):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((float(x.min()), float(x.max()), len(x)))
            return super().forward(x)

    before = torch.get_rng_state()
    certify(Watch(), images(5), num_estimation=100, batch_size=64)
    assert min(low for low, _, _ in seen) < -0.5 and max(high for _, high, _ in seen) > 1.5
    assert max(num for _, _, num in seen) <= 64
    assert torch.equal(before, torch.get_rng_state())


def test_logits_that_are_not_finite_count_for_no_class():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 3), math.nan)

    assert certify(Broken(), images(2), num_estimation=50).abstained.all()


def test_certified_accuracies_written_out():
    found = Smoothed(
        prediction=torch.tensor([0, 1, NO_CLASS, 1]),
        radius=torch.tensor([0.5, 0.2, 0.0, 0.9]),
        lower=torch.zeros(4),
    )
    y = torch.tensor([0, 1, 1, 0])
    radii = torch.tensor([0.0, 0.2, 0.4, 0.8])
    assert certified_accuracy(found, y, radii).tolist() == [0.5, 0.5, 0.25, 0.0]


def subject(norm: str) -> Subject:
    model, x = Half(), images(20)
    y = (model.distance(x) < 0).long()
    right = torch.ones(20, dtype=torch.bool)
    return Subject(model, x, y, right, 2, ("above", "below"), eps=0.1, norm=norm, batch_size=999)


def test_the_measure_says_shares_radii_and_its_cap():
    one = Smoothing(sigma=0.5, n0=50, n=400, num_samples=12)
    ((spec, found),) = measured(subject("l2"), [one])
    assert spec == {"name": "smoothing", "sigma": 0.5, "n0": 50, "n": 400, "num_samples": 12}
    radius, prediction = found.arrays["radius"], found.arrays["prediction"]
    right = prediction == subject("l2").y[:12].numpy()
    values = found.values
    assert values["smoothed_accuracy"] == pytest.approx(right.mean())
    assert values["certified_accuracy"] == pytest.approx((right & (radius >= 0.1)).mean())
    assert values["average_radius"] == pytest.approx((radius * right).mean(), rel=1e-5)
    assert values["abstained"] == pytest.approx((prediction == NO_CLASS).mean())
    curve = found.curves[0]
    assert curve.x[0] == 0 and curve.x[-1] == pytest.approx(values["largest_radius"])
    assert curve.y[0] == values["smoothed_accuracy"] and curve.y == sorted(curve.y, reverse=True)
    assert "no radius can exceed" in found.remark
    ((_, other),) = measured(subject("linf"), [one])
    assert other.values["certified_accuracy"] is None and other.values["eps"] is None


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"sigma": 0.0}, {"alpha": 1.0}, {"n": 0}, {"n0": 0}, {"num_samples": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            registry("measure").build({"name": "smoothing", **wrong})
