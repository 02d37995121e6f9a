"""Objectives on bounds: their losses written out, their schedules, and training with them."""

import dataclasses
import math

import pytest
import torch
from torch import nn, tensor

from wiry.attacks.fgsm import FGSM
from wiry.bounds.certify import margins
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.objectives.crown_ibp import CrownIbp
from wiry.objectives.interval import Ibp, ramped
from wiry.objectives.mixtrain import Mixtrain


def two_two_two() -> nn.Module:
    """h = relu(x1 - x2, x1 + x2 - 1); logits (h1 + h2 + 1/8, h1 - h2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(tensor([[1.0, -1.0], [1.0, 1.0]]))
        model[1].bias.copy_(tensor([0.0, -1.0]))
        model[3].weight.copy_(tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[3].bias.copy_(tensor([0.125, 0.0]))
    return model


def at(progress: float) -> Batch:
    """One image with margin 5/8: interval bound 1/8, CROWN bound -3/8 at radius 1/4."""
    x = tensor([0.75, 0.5]).view(1, 1, 1, 2)
    return Batch(x, tensor([0]), tensor([0]), progress)


def value(objective, progress: float, batch: Batch | None = None) -> float:
    model = two_two_two()
    batch = dataclasses.replace(batch or at(0.0), progress=progress)
    return objective(model, model, batch, stream(0, "attack")).total.item()


def loss_at(margin: float) -> float:
    return math.log(1 + math.exp(-margin))


def test_ibp_mixes_the_clean_loss_with_that_of_the_interval_bound():
    objective = Ibp(0.25, natural_weight=0.5, warmup=0.2, ramp=0.4)
    assert value(objective, 0.0) == value(objective, 0.2) == pytest.approx(loss_at(0.625))
    assert value(objective, 0.6) == pytest.approx(0.5 * loss_at(0.625) + 0.5 * loss_at(0.125))
    assert value(objective, 1.0) == value(objective, 0.6)
    # half way: radius 1/8, h2 in [0, 1/2], bound 1/8, clean share 3/4
    half = 0.75 * loss_at(0.625) + 0.25 * loss_at(0.125)
    assert value(objective, 0.4) == pytest.approx(half)


def test_crown_ibp_fades_from_the_crown_to_the_interval_bound():
    objective = CrownIbp(0.25, ramp=0.5)
    assert value(objective, 0.0) == pytest.approx(loss_at(0.625))
    assert value(objective, 0.5) == value(objective, 1.0) == pytest.approx(loss_at(0.125))
    # half way: radius 1/8, h2 in [0, 1/2] with no doubt left, so CROWN and intervals say 1/8
    assert value(objective, 0.25) == pytest.approx(loss_at(0.125))
    stays = CrownIbp(0.25, ramp=0.5, crown_weight=0.25, natural_start=1.0, natural_end=0.5)
    mixed = 0.25 * -0.375 + 0.75 * 0.125
    assert value(stays, 0.5) == pytest.approx(0.5 * loss_at(0.625) + 0.5 * loss_at(mixed))
    assert value(stays, 0.0) == pytest.approx(loss_at(0.625))


def test_mixtrain_adds_the_weighted_bound():
    objective = Mixtrain(0.25, probability=1.0, ramp=0.25, weight=0.1, max_weight=1.0, period=0.25)
    assert value(objective, 0.0) == pytest.approx(1.1 * loss_at(0.625))
    assert value(objective, 0.25) == pytest.approx(loss_at(0.625) + 0.1 * loss_at(-0.375))
    assert value(objective, 0.75) == pytest.approx(loss_at(0.625) + 0.625 * loss_at(-0.375))
    boxes = dataclasses.replace(objective, bound="ibp")
    assert value(boxes, 0.25) == pytest.approx(loss_at(0.625) + 0.1 * loss_at(0.125))
    attacked = dataclasses.replace(boxes, attack=FGSM(0.125))
    assert value(attacked, 0.25) == pytest.approx(loss_at(0.125) + 0.1 * loss_at(0.125))
    assert value(Mixtrain(0.25, probability=0.0), 1.0) == pytest.approx(loss_at(0.625))


def test_mixtrain_weight_grows_by_periods_after_the_ramp_up_to_its_limit():
    """With the published lengths, 60 epochs: 15 of ramp, then 2.5-fold every 5."""
    weights = [Mixtrain().weight_at(epoch / 60) for epoch in (0, 15, 19, 20, 25, 45, 49, 50, 59)]
    exact = [0.1, 0.1, 0.1, 0.25, 0.625, 0.1 * 2.5**6, 0.1 * 2.5**6, 50, 50]
    assert weights == pytest.approx(exact)


def network(norm: bool = True) -> nn.Module:
    """A convolution with or without batch normalisation, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        middle = [nn.BatchNorm2d(4)] if norm else []
        layers = [nn.Conv2d(1, 4, 3, padding=1), *middle, nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(144, 3)).train()


def images(progress: float = 1.0) -> Batch:
    """Images whose class is the third that is bright."""
    generator = stream(3, "batch")
    y = torch.randint(0, 3, (24,), generator=generator)
    x = torch.rand(24, 1, 6, 6, generator=generator) * 0.5
    for row, label in zip(x, y.tolist(), strict=True):
        row[:, 2 * label : 2 * label + 2] += 0.4
    return Batch(x, y, torch.arange(24), progress)


def test_mixtrain_takes_few_images_of_some_batches():
    """The images differ in their bounds, so the loss tells which ones were taken."""
    batch, model = images(), network(norm=False)
    objective = Mixtrain(0.1, num_images=1, probability=0.5, weight=1.0, growth=1.0, bound="ibp")
    clean = nn.functional.cross_entropy(model(batch.x), batch.y)
    (bound,) = margins(model, batch.x, batch.y, 0.1, "ibp")
    single = nn.functional.cross_entropy(-bound, batch.y, reduction="none")
    seen = set()
    for seed in range(60):
        extra = objective(model, model, batch, stream(seed, "attack")).total - clean
        near = (single - extra).abs() < 1e-5
        assert int(near.sum()) == 1 or extra == 0
        seen.add(int(near.nonzero()[0]) if near.any() else None)
    assert None in seen and len(seen) > 10


@pytest.mark.parametrize(
    ("progress", "expected"), [(0, 0), (0.2, 0), (0.3, 0.5), (0.4, 1), (0.9, 1)]
)
def test_ramp(progress, expected):
    assert ramped(progress, 0.2, 0.2) == pytest.approx(expected)
    assert ramped(progress, 0.3, 0.0) == float(progress >= 0.3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "ibp", "eps": 8}, "Did you mean 8/255"),
        ({"name": "ibp", "natural_weight": 1.5}, "natural_weight must be in"),
        ({"name": "ibp", "warmup": 0.6, "ramp": 0.6}, "warmup \\+ ramp must be at most 1"),
        ({"name": "crown-ibp", "crown_weight": -1}, "crown_weight must be in"),
        ({"name": "crown-ibp", "ramp": 60}, "ramp must be in"),
        ({"name": "mixtrain", "num_images": 0}, "num_images must be at least 1"),
        ({"name": "mixtrain", "growth": 0.5}, "growth must be at least 1"),
        ({"name": "mixtrain", "period": 0}, "period must be above 0"),
        ({"name": "mixtrain", "bound": "crown"}, "bound"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        registry("objective").build(spec)
