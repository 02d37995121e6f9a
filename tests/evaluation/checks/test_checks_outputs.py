"""Checks of images, outputs and counts: planted faults are found, sound networks not blamed."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.evaluation.checks.planted import (
    Spoiled,
    check,
    digits,
    scaled,
    subject_of,
    trained,
)
from torch import nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fgsm import FGSM
from wiry.core.mask import Mask


class Noisy(nn.Module):
    """Adds noise from a generator of its own."""

    def __init__(self, size):
        super().__init__()
        self.size, self.generator = size, torch.Generator().manual_seed(0)

    def forward(self, logits):
        return logits + self.size * torch.randn(logits.shape, generator=self.generator)


def pixels(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (pixels(0, 128, 255), "divide them by 255"),
        (pixels(-1, 0, 1), "first layer"),
        (pixels(0, 1 / 255), "twice"),
        (pixels(0, float("nan")), "1 pixels are not numbers"),
        (pixels(0, float("inf")), "first layer"),
        (torch.tensor([0, 200], dtype=torch.uint8).view(-1, 1, 1, 1), "not floats"),
    ],
)
def test_images_that_are_not_in_0_1_are_an_error(x, words):
    subject = dataclasses.replace(subject_of(trained(), table=False), x=x)
    finding = check("input-range", subject)
    assert finding.severity == "error" and words in finding.message


@pytest.mark.parametrize("x", [pixels(0, 1), pixels(0.2, 0.9), pixels(0, 2 / 255)])
def test_images_in_0_1_are_fine(x):
    assert (
        check("input-range", dataclasses.replace(subject_of(trained(), table=False), x=x)) is None
    )


def test_probabilities_and_their_logarithms_are_told_from_logits():
    hidden = subject_of(Spoiled(trained(), after=lambda logits: logits.softmax(1)))
    finding = check("softmax-outputs", hidden)
    assert finding.severity == "warning" and "without the softmax" in finding.message
    harmless = subject_of(Spoiled(trained(), after=lambda logits: logits.log_softmax(1)))
    assert check("softmax-outputs", harmless).severity == "note"
    assert check("softmax-outputs", subject_of(trained())) is None


def test_noise_is_found_and_the_advice_depends_on_the_attacks():
    noisy = subject_of(Spoiled(trained(), after=Noisy(10.0)))
    finding = check("randomness", noisy)
    assert finding.severity == "warning" and finding.evidence["changed"] > 0.1
    assert "rand" in finding.message
    averaged = dataclasses.replace(noisy, attacks=(APGD(0.1, num_passes=20),))
    assert check("randomness", averaged).severity == "note"
    assert check("randomness", subject_of(trained())) is None


def test_noise_as_small_as_rounding_is_none():
    assert check("randomness", subject_of(Spoiled(trained(), after=Noisy(1e-6)))) is None


def test_dropout_is_no_randomness_in_evaluation_mode():
    model = Spoiled(trained(), after=nn.Dropout(0.5)).train()
    assert check("randomness", subject_of(model)) is None


def test_infinite_logits_are_counted():
    def explode(logits):
        return torch.where(logits.argmax(1, keepdim=True) == 3, logits / 0, logits)

    finding = check("non-finite", subject_of(Spoiled(trained(), after=explode)))
    with torch.no_grad():
        share = float((trained()(digits()[2]).argmax(1) == 3).float().mean())
    assert finding.severity == "warning" and finding.evidence["share"] == pytest.approx(share)
    assert check("non-finite", subject_of(trained())) is None
    assert check("non-finite", subject_of(trained(), table=False)) is None


def test_a_normalisation_outside_the_network_is_found_and_named():
    finding = check("normalisation", subject_of(trained("outside")))
    assert finding.severity == "warning" and "first layer" in finding.message
    assert finding.evidence["accuracy_scaled"] - finding.evidence["accuracy"] >= 0.15
    with torch.no_grad():
        x, y = digits()[2:]
        wanted = float((trained("outside")(scaled(x)).argmax(1) == y).float().mean())
    assert finding.evidence["accuracy_scaled"] == pytest.approx(wanted, abs=0.1)


def test_a_network_trained_on_bytes_is_found():
    model = Spoiled(trained(), before=lambda x: x / 255)
    assert check("normalisation", subject_of(model)).evidence["scale"] == "x * 255"


@pytest.mark.parametrize("kind", ["natural", "adversarial"])
def test_a_network_that_holds_its_normalisation_is_fine(kind):
    assert check("normalisation", subject_of(trained(kind))) is None


def test_a_weak_network_is_not_blamed_for_its_scale():
    bad = subject_of(Spoiled(trained(), after=lambda logits: logits.roll(1, dims=1)))
    assert check("normalisation", bad) is None


def test_weights_that_are_there_against_the_mask_are_counted():
    model, name = trained(), "body.1.weight"
    weight = dict(model.named_parameters())[name]
    kept = torch.ones_like(weight, dtype=torch.bool)
    kept[0, :5] = False
    finding = check("mask", subject_of(model, mask=Mask({name: kept})))
    assert finding.severity == "error" and finding.evidence["not_zero"] == 5
    assert check("mask", subject_of(model, mask=Mask({name: weight != 0}))) is None
    assert check("mask", subject_of(model)) is None


@pytest.mark.parametrize("name", ["body.9.weight", "body.3.weight"])
def test_a_mask_of_another_network_is_an_error(name):
    mask = Mask({name: torch.ones(2, 2, dtype=torch.bool)})
    finding = check("mask", subject_of(trained(), mask=mask))
    assert finding.severity == "error" and name in finding.message


def test_a_difference_too_small_for_the_images_says_how_many_it_takes():
    subject = subject_of(trained(), claim=0.01)
    subject = dataclasses.replace(subject, clean_correct=torch.arange(100) < 50)
    finding = check("num-samples", subject)
    # 1.96 * sqrt(2 * 0.5 * 0.5 / 100) nearly: 0.51 * 0.49 for the other network
    assert finding.evidence["half_width"] == pytest.approx(0.1386, abs=1e-3)
    assert finding.evidence["needed"] == pytest.approx(0.4999 * (1.95996 / 0.01) ** 2, rel=1e-4)
    enough = dataclasses.replace(subject, claim=0.2)
    assert check("num-samples", enough) is None


def test_the_claim_is_about_robust_accuracy_if_there_was_an_attack():
    subject = subject_of(trained(), [FGSM(0.1)], claim=0.001)
    assert subject.table is not None
    robust = float(subject.table.robust.mean())
    assert 0.05 < robust < 0.9 < float(subject.clean_correct.float().mean())
    half_width = check("num-samples", subject).evidence["half_width"]
    assert half_width == pytest.approx(1.96 * np.sqrt(2 * robust * (1 - robust) / 100), rel=0.02)


def test_few_images_are_noted_with_their_interval():
    x, y = digits()[2:]
    finding = check("num-samples", subject_of(trained(), x=x[:20], y=y[:20]))
    assert finding.severity == "note"
    assert finding.evidence["high"] - finding.evidence["low"] > 0.1
    assert check("num-samples", subject_of(trained())) is None


def test_no_number_of_images_shows_a_difference_of_nothing():
    assert check("num-samples", subject_of(trained(), claim=0.0)).evidence["needed"] is None


def test_one_answer_and_guessing_are_noted():
    constant = Spoiled(trained(), after=lambda logits: 0 * logits + torch.eye(10)[7])
    finding = check("chance", subject_of(constant))
    assert finding.severity == "note" and finding.evidence["class"] == "7"
    rolled = Spoiled(trained(), after=lambda logits: logits.roll(1, dims=1))
    assert "tells nothing apart" in check("chance", subject_of(rolled)).message
    assert check("chance", subject_of(trained())) is None


def test_one_class_of_images_is_no_reason_to_speak_of_chance():
    x, y = digits()[2:]
    ones = y == 1
    assert ones.sum() >= 5
    many = x[ones][:5].repeat(4, 1, 1, 1), y[ones][:5].repeat(4)
    assert check("chance", subject_of(trained(), x=many[0], y=many[1])) is None


def test_layers_left_in_training_mode_are_counted_if_they_answer_otherwise_there():
    class Layers(nn.Sequential):
        def forward(self, x):
            return trained()(x)

    model = Layers(
        nn.BatchNorm2d(1), nn.BatchNorm2d(1, track_running_stats=False), nn.ReLU(), nn.Dropout(0.5),
        nn.Dropout(0.0), nn.RReLU(), nn.MultiheadAttention(4, 1, dropout=0.1), nn.LSTM(2, 2),
    )  # fmt: skip
    subject = subject_of(model, training=tuple(name for name, _ in model.named_modules()))
    finding = check("training-mode", subject)
    assert finding.severity == "warning" and finding.evidence["layers"] == 4
    assert check("training-mode", subject_of(model)) is None


def test_batch_norm_without_statistics_ties_images_together():
    norm = nn.BatchNorm1d(10, affine=False, track_running_stats=False)
    finding = check("batch-dependence", subject_of(Spoiled(trained(), after=norm)))
    assert finding.severity == "warning" and finding.evidence["largest_difference"] > 0.01
    assert check("batch-dependence", subject_of(trained())) is None
