"""The check that speaks where no attack saw a gradient, and is silent where one did."""

import dataclasses

import torch
from torch import nn

from wiry.attacks.fgsm import FGSM
from wiry.attacks.square import Square
from wiry.core.errors import NoGradient
from wiry.core.registry import registry
from wiry.evaluation.examine import findings_of
from wiry.evaluation.subject import Subject


def subject(attacks, model=None):
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Subject(
        model=model or nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
        x=x,
        y=torch.zeros(4, dtype=torch.long),
        clean_correct=torch.ones(4, dtype=torch.bool),
        num_classes=3,
        class_names=("a", "b", "c"),
        eps=0.1,
        attacks=attacks,
    )


def test_black_box_attacks_alone_are_reported():
    [finding] = findings_of(subject((Square(0.1),)), ["black-box-only"])
    assert finding.severity == "warning" and "Black box only: square" in finding.message


def test_one_look_at_a_gradient_and_no_attack_are_silent():
    assert findings_of(subject((Square(0.1), FGSM(0.1))), ["black-box-only"]) == []
    assert findings_of(subject(()), ["black-box-only"]) == []


def test_only_square_says_that_it_needs_no_gradient():
    kinds = {
        n: getattr(registry("attack").get(n), "uses_gradient", True) for n in ("square", "pgd")
    }
    assert kinds == {"square": False, "pgd": True}


class Closed(nn.Module):
    """Answers, and refuses to be differentiated."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad:
            raise NoGradient("closed")
        return self.body(x)


def test_checks_that_need_gradients_are_left_out_of_a_network_without():
    closed = dataclasses.replace(subject((Square(0.1),)), model=Closed())
    assert "black-box-only" in {finding.check for finding in findings_of(closed)}
    assert findings_of(closed, ["gradients"]) == []
