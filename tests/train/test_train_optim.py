"""Optimizer settings: decays and the L1 penalty, with the answers written out."""

import pytest
import torch
from torch import nn, tensor

from wiry.train.optim import SGD, Adam, decayed


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.5, 0.0]),
        ("cosine", [1.0, 0.5, 0.0]),
        ("step", [1.0, 0.1, 0.01]),
    ],
)
def test_a_decay_has_the_written_values_at_start_middle_and_end(decay, values):
    found = [decayed(1.0, decay, 0.0, progress) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx(values)


def test_warm_up_rises_from_zero_and_the_decay_starts_after_it():
    assert decayed(2.0, "linear", 0.2, 0.1) == pytest.approx(1.0)
    assert decayed(2.0, "linear", 0.2, 0.2) == pytest.approx(2.0)
    assert decayed(2.0, "linear", 0.2, 0.6) == pytest.approx(1.0)


def test_the_l1_penalty_pulls_weights_to_zero_and_leaves_biases_and_pruned_weights():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(tensor([[2.0, -3.0, 0.0]]))
        layer.bias.fill_(1.0)
    settings = SGD(lr=0.1, momentum=0.0, weight_decay=0.0, l1=0.5)
    optimizer = settings.build(layer.parameters())
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(layer.weight, tensor([[1.95, -2.95, 0.0]]))
    assert layer.bias.item() == 1.0


@pytest.mark.parametrize("kind", [Adam, SGD])
@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"warmup": 1.0}, {"l1": -1.0}])
def test_bad_settings_are_refused(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        kind(**bad)
