"""The objectives of smoothed networks: their losses, and that noise is not clipped."""

import math

import pytest
import torch
from tests.objectives.test_objectives_values import OneWeight, call, divergence, sigmoid

from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.objectives.noise import Noise, noisy
from wiry.objectives.stability import Stability


def drawn(sigma):
    """Return the pixel that `call` shows: a value of 1 plus the first draw of its seed."""
    return 1 + sigma * float(torch.randn(1, 1, 1, 1, generator=stream(0, "attack")))


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_noise_is_the_cross_entropy_of_the_noisy_image(sigma):
    loss = call(Noise(sigma=sigma))
    assert loss.total.item() == pytest.approx(-math.log(sigmoid(2 * drawn(sigma))), rel=1e-5)


def test_label_smoothing_spreads_its_share():
    logit = 2 * drawn(0.25)
    expected = -0.95 * math.log(sigmoid(logit)) - 0.05 * math.log(sigmoid(-logit))
    assert call(Noise(label_smoothing=0.1)).total.item() == pytest.approx(expected, rel=1e-5)


def test_stability_adds_beta_times_the_divergence_from_the_clean_prediction():
    loss = call(Stability(sigma=0.5, beta=6.0))
    clean, other = sigmoid(2), sigmoid(2 * drawn(0.5))
    expected = -math.log(clean) + 6 * divergence(clean, other)
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)


def test_stability_without_its_weight_is_natural_training():
    natural = call(registry("objective").build("natural"))
    assert call(Stability(beta=0.0)).total.item() == pytest.approx(natural.total.item())


def test_stability_reports_both_accuracies():
    """A positive pixel is right; the noise makes some negative."""
    batch = Batch(torch.ones(200, 1, 1, 1), torch.ones(200).long(), torch.arange(200))
    loss = call(Stability(sigma=4.0), batch=batch)
    right = noisy(batch.x, 4.0, stream(0, "attack")) > 0
    assert 0.3 < right.float().mean() < 0.9
    assert loss.metrics["accuracy"] == 1
    assert loss.metrics["noisy_accuracy"] == right.float().mean()


def test_noise_has_its_deviation_and_is_not_clipped():
    x = torch.full((40, 1, 20, 20), 0.9)
    drawn = noisy(x, 0.25, stream(1, "noise"))
    assert float((drawn - x).std()) == pytest.approx(0.25, rel=0.02)
    assert float((drawn - x).mean()) == pytest.approx(0, abs=0.01)
    assert float((drawn > 1).float().mean()) == pytest.approx(0.345, abs=0.02)  # beyond 0.4 sigma
    assert float(x.min()) == pytest.approx(0.9)


def test_stability_gradient_flows_through_both_predictions():
    model = OneWeight()
    call(Stability(sigma=0.5, beta=1.0), model).total.backward()
    pixel = drawn(0.5)

    def value(weight):
        clean, other = sigmoid(weight), sigmoid(weight * pixel)
        return -math.log(clean) + divergence(clean, other)

    slope = (value(2 + 1e-4) - value(2 - 1e-4)) / 2e-4
    assert model.weight.grad is not None
    assert model.weight.grad.item() == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "noise", "sigma": 0}, "sigma must be above 0, got 0; for no noise use 'natural'"),
        ({"name": "noise", "sigma": 64}, "Did you mean 64/255"),
        ({"name": "noise", "label_smoothing": 1}, "label_smoothing must be in"),
        ({"name": "stability", "sigma": -1}, "sigma must be above 0"),
        ({"name": "stability", "beta": -1}, "beta must be at least 0"),
        ({"name": "stability", "label_smoothing": 1}, "label_smoothing must be in"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_the_reason(spec, message):
    with pytest.raises(UserError, match=message):
        registry("objective").build(spec)
