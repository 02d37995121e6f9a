"""Adversarial images from one network to another: a matrix by hand, and what holds for any."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tests.evaluation.example import Jitter
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.transfer import transfer


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the sign of the gradient."""

    eps: float = 0.2
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
        return (x + self.eps * slope.sign()).clamp(0, 1).detach()


class Linear(nn.Module):
    """Says 1 where the weighted pixels are above a bias."""

    def __init__(self, weights, bias):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bias = bias

    def forward(self, x):
        score = x.flatten(1) @ self.weights - self.bias
        return torch.stack([-score, score], dim=1)


def models():
    return {"left": Linear([1.0, 0.0], 0.5), "sum": Linear([1.0, 1.0], 1.0)}


X = torch.tensor([[0.6, 0.9], [0.8, 0.3], [0.4, 0.9], [0.65, 0.1]]).view(4, 1, 1, 2)
Y = torch.tensor([1, 1, 0, 1])


def test_the_matrix_is_that_written_out():
    # `left` has all four right. Attacked, the images are (0.4, 0.9), (0.6, 0.3), (0.6, 0.9) and
    # (0.45, 0.1): `left` has the second right, `sum` the first.
    # `sum` has the first two right. Attacked, they are (0.4, 0.7) and (0.6, 0.1): `left` has the
    # second right, and the two that were not attacked; `sum` has the first.
    matrix = transfer(models(), X, Y, [Step()])
    assert matrix.names == ("left", "sum") and matrix.num_samples == 4
    assert matrix.clean_accuracy.tolist() == [1.0, 0.5]
    assert matrix.accuracy.tolist() == [[0.25, 0.25], [0.75, 0.25]]
    assert matrix.num_both.tolist() == [[4, 2], [2, 2]]
    assert matrix.kept.tolist() == [[0.25, 0.5], [0.5, 0.5]]
    data = json.loads(json.dumps(matrix.to_data()))
    assert data["kept"] == [[0.25, 0.5], [0.5, 0.5]] and data["attacks"] == [repr(Step())]


def test_a_network_that_is_never_right_keeps_nothing_and_no_share_is_made_up():
    wrong = {"left": models()["left"], "wrong": Linear([-1.0, 0.0], -0.5)}
    matrix = transfer(wrong, X, Y, [Step()])
    assert matrix.num_both.tolist() == [[4, 0], [0, 0]]
    assert np.isnan(matrix.kept[0, 1])
    assert matrix.to_data()["kept"] == [[0.25, None], [None, None]]
    assert matrix.accuracy[1].tolist() == [1.0, 0.0]  # it cannot be attacked: all stay as they are


def test_a_later_attack_gets_what_the_earlier_left():
    # After a step of 0.2 `left` still has the second image right, (0.6, 0.3); a step of 0.35 makes
    # (0.45, 0.3) of it, which fools both. `sum` still has the first right, (0.4, 0.7); the longer
    # step makes (0.25, 0.55) of it, which fools both. The others stay as the first step left them.
    matrix = transfer(models(), X, Y, [Step(), Step(0.35)])
    assert matrix.accuracy.tolist() == [[0.0, 0.25], [0.75, 0.0]]
    assert matrix.attacks == (repr(Step()), repr(Step(0.35)))


@pytest.mark.parametrize("attack", [PGD(eps=0.15, steps=3), Jitter(0.15)], ids=repr)
def test_the_diagonal_is_the_robust_accuracy_and_batches_do_not_matter(attack):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 1, 1, 2, generator=generator)
    nets = models()
    y = (x.flatten(1).sum(1) > 1).long()
    matrix = transfer(nets, x, y, [attack], seed=4)
    for position, net in enumerate(nets.values()):
        robust = attack_images(net, x, y, [attack], seed=4).robust.mean()
        assert matrix.accuracy[position, position] == pytest.approx(robust)
    assert 0 < matrix.accuracy[0, 0] < matrix.clean_accuracy[0]
    small = transfer(nets, x, y, [attack], seed=4, batch_size=7)
    assert np.array_equal(matrix.accuracy, small.accuracy)
    assert np.array_equal(matrix.kept, small.kept)


def test_networks_come_back_as_they_were():
    nets = models()
    nets["left"].train()
    nets["sum"].eval()
    transfer(nets, X, Y, [Step()])
    assert nets["left"].training and not nets["sum"].training
    for net in nets.values():
        assert net.weights.requires_grad and net.weights.grad is None


def test_a_transfer_needs_two_networks_and_labelled_images():
    with pytest.raises(UserError, match="2 networks or more, got 1"):
        transfer({"left": models()["left"]}, X, Y, [Step()])
    with pytest.raises(UserError, match="needs an attack"):
        transfer(models(), X, Y, [])
    with pytest.raises(UserError, match="a label each, got 4 and 3"):
        transfer(models(), X, Y[:3], [Step()])
    with pytest.raises(UserError, match="got 0 and 0"):
        transfer(models(), X[:0], Y[:0], [Step()])
