"""Each objective's loss on numbers small enough to write out."""

import math

import pytest
import torch
from torch import Tensor, nn, tensor

from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.objectives.adversarial import Adversarial
from wiry.objectives.free import Free
from wiry.objectives.mart import Mart, boosted_cross_entropy
from wiry.objectives.natural import Natural
from wiry.objectives.trades import Trades

HALF = FGSM(0.5)


class OneWeight(nn.Module):
    """Two classes told apart by one pixel: logits (0, w * x)."""

    def __init__(self, weight: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor(weight))

    def forward(self, x: Tensor) -> Tensor:
        logit = self.weight * x.flatten(1)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def one_pixel(value: float = 1.0, label: int = 1) -> Batch:
    return Batch(torch.full((1, 1, 1, 1), value), tensor([label]), tensor([0]))


def call(objective, model: nn.Module | None = None, batch: Batch | None = None):
    model = model or OneWeight()
    return objective(model, model, batch or one_pixel(), stream(0, "attack"))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_natural_is_the_cross_entropy_of_the_clean_image():
    assert call(Natural()).total.item() == pytest.approx(-math.log(sigmoid(2)))


def test_label_smoothing_spreads_its_share_over_all_classes():
    expected = -0.95 * math.log(sigmoid(2)) - 0.05 * math.log(sigmoid(-2))
    assert call(Natural(label_smoothing=0.1)).total.item() == pytest.approx(expected)
    smooth_only = call(Adversarial(FGSM(0.0), label_smoothing=0.1))
    assert smooth_only.total.item() == pytest.approx(expected)


def test_adversarial_is_the_cross_entropy_half_a_pixel_nearer():
    loss = call(Adversarial(HALF))
    assert loss.total.item() == pytest.approx(-math.log(sigmoid(2 * 0.5)))
    assert set(loss.metrics) == {"robust_accuracy"}


def test_adversarial_mixes_in_the_clean_loss_with_its_weight():
    loss = call(Adversarial(HALF, natural_weight=0.25))
    expected = -0.25 * math.log(sigmoid(2)) - 0.75 * math.log(sigmoid(1))
    assert loss.total.item() == pytest.approx(expected)


def test_adversarial_images_are_constants_of_the_loss():
    """The image would move with the weight if it were not; the gradient says that it does not."""
    model = OneWeight()
    call(Adversarial(HALF), model).total.backward()
    assert model.weight.grad is not None
    assert model.weight.grad.item() == pytest.approx(-0.5 * sigmoid(-1))


def divergence(clean: float, other: float) -> float:
    return clean * math.log(clean / other) + (1 - clean) * math.log((1 - clean) / (1 - other))


def test_trades_adds_beta_times_the_divergence_from_the_clean_prediction():
    loss = call(Trades(HALF, beta=6.0))
    expected = -math.log(sigmoid(2)) + 6 * divergence(sigmoid(2), sigmoid(1))
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def test_trades_gradient_flows_through_both_predictions():
    model = OneWeight()
    call(Trades(HALF, beta=1.0), model).total.backward()
    assert model.weight.grad is not None

    def value(weight: float) -> float:  # the adversarial pixel stays at 0.5
        clean, other = sigmoid(weight), sigmoid(weight / 2)
        return -math.log(clean) + divergence(clean, other)

    slope = (value(2 + 1e-4) - value(2 - 1e-4)) / 2e-4
    assert model.weight.grad.item() == pytest.approx(slope, rel=1e-3)


def test_trades_raises_the_divergence_by_default_and_asks_for_no_label():
    objective = Trades()
    assert objective.attack == PGD(loss="kl", random_start=False)
    one, other = (call(objective, batch=one_pixel(0.5, label)).metrics for label in (0, 1))
    assert one["robust_accuracy"] + other["robust_accuracy"] == 1


def test_boosted_cross_entropy_adds_the_likeliest_wrong_class():
    probabilities = tensor([[0.2, 0.5, 0.3]])
    found = boosted_cross_entropy(probabilities.log(), tensor([2]))
    assert found.item() == pytest.approx(-math.log(0.3) - math.log(1.0001 - 0.5), rel=1e-5)


def test_mart_weighs_the_divergence_with_the_clean_doubt():
    loss = call(Mart(HALF, beta=5.0))
    clean, other = sigmoid(2), sigmoid(1)
    boosted = -math.log(other) - math.log(1.0001 - (1 - other))
    expected = boosted + 5 * divergence(clean, other) * (1 - clean)
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def test_free_moves_the_image_by_the_gradient_of_its_own_backward_pass():
    """Wherever the draw was, two steps of the radius against the class end at the ball's bound."""
    model, objective, batch = OneWeight(), Free(eps=0.25, replays=3), one_pixel(0.5)
    losses = []
    for _ in range(3):
        loss = call(objective, model, batch)
        loss.total.backward()
        objective.after_backward()
        losses.append(loss.total.item())
    assert losses[0] < losses[1] <= losses[2]
    assert losses[2] == pytest.approx(-math.log(sigmoid(2 * 0.25)))


def test_free_begins_anew_at_each_batch_and_after_its_replays():
    model, objective = OneWeight(), Free(eps=0.25, replays=2)
    batch = one_pixel(0.5)

    def replay(batch: Batch) -> float:
        loss = call(objective, model, batch)
        loss.total.backward()
        objective.after_backward()
        return loss.total.item()

    first, second = replay(batch), replay(batch)
    assert first != second
    assert replay(batch) == first
    assert replay(one_pixel(0.5)) == first


def test_free_says_so_if_the_loop_forgets_its_hook():
    model, objective, batch = OneWeight(), Free(), one_pixel()
    call(objective, model, batch).total.backward()
    with pytest.raises(AssertionError, match="after_backward was not called"):
        call(objective, model, batch)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "natural", "label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"name": "adversarial", "natural_weight": 1.5}, r"natural_weight must be in \[0, 1\)"),
        ({"name": "trades", "beta": -1}, "beta must be at least 0, got -1"),
        ({"name": "mart", "beta": -1}, "beta must be at least 0, got -1"),
        ({"name": "free", "replays": 0}, "replays must be at least 1, got 0"),
        ({"name": "free", "eps": 8}, "Did you mean 8/255"),
        ({"name": "adversarial", "attack": "pdg"}, "closest: 'pgd'"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_the_reason(spec, message):
    with pytest.raises(UserError, match=message):
        registry("objective").build(spec)
