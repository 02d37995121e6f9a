"""Attacks are checked, and the model comes back as it was."""

import dataclasses

import pytest
import torch
from tests.evaluation.example import Shift, Threshold, X, Y, pixels

from wiry.evaluation.attacked import attack_images
from wiry.evaluation.judge import check_inside


@dataclasses.dataclass(frozen=True)
class Rough:
    """Leaves the model in train mode with moved averages, and may fail."""

    fails: bool = False
    eps: float = 0.2
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        model.train()
        model(x)
        if self.fails:
            raise RuntimeError("attack fails")
        model.eval()
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_model_comes_back_as_it_was_also_on_error(fails):
    model = Threshold().train()
    model.norm.eval()
    model.norm.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if fails:
        with pytest.raises(RuntimeError, match="attack fails"):
            attack_images(model, X, Y, [Rough(fails=True)])
    else:
        attack_images(model, X, Y, [Rough()])
    assert model.training and not model.norm.training
    assert model.weight.requires_grad and not model.norm.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "attack",
    [Shift(0.21), Shift(-0.3), Shift(0.3, norm="l2"), Shift(0.0, eps=-1), Shift(0.1, norm="l7")],
    ids=repr,
)
def test_attack_outside_its_ball_is_an_error_that_names_it(attack):
    with pytest.raises(AssertionError, match=r"Shift\(step"):
        attack_images(Threshold(), X, Y, [attack])


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_images_outside_zero_and_one_are_an_error_that_names_the_attack(value):
    x = pixels([0.0, 1.0])
    with pytest.raises(AssertionError, match="Shift"):
        check_inside(Shift(0.0), x, torch.full_like(x, value))


def test_ball_is_measured_in_the_norm_of_the_attack():
    x = torch.full((1, 1, 2, 2), 0.5)
    moved = x + 0.1  # l2 distance 0.2, l1 distance 0.4
    check_inside(Shift(0.0, eps=0.2, norm="l2"), x, moved)
    check_inside(Shift(0.0, eps=0.4, norm="l1"), x, moved)
    with pytest.raises(AssertionError, match="left its ball"):
        check_inside(Shift(0.0, eps=0.199, norm="l2"), x, moved)
    with pytest.raises(AssertionError, match="left its ball"):
        check_inside(Shift(0.0, eps=0.399, norm="l1"), x, moved)
