"""A model of one pixel and attacks on it, where every answer can be written out."""

import dataclasses
from typing import Literal

import torch
from torch import nn

NAMES = ("dark", "bright")


@dataclasses.dataclass(frozen=True)
class Shift:
    """Moves all pixels by a signed step."""

    step: float
    eps: float = 0.2
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        return (x + self.step).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Moves pixels at random."""

    eps: float = 0.2
    norm: Literal["linf"] = "linf"

    def __call__(self, model, x, y, generator):
        noise = torch.rand(x.shape, generator=generator) * 2 - 1
        return (x + self.eps * noise).clamp(0, 1)


class Threshold(nn.Module):
    """Says 1 where the pixel is above 0.5; a batch norm records whether it was touched."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        self.norm(x)
        pixel = self.weight * x.flatten(1)[:, :1]
        return torch.cat([0.5 - pixel, pixel - 0.5], dim=1)


def pixels(values):
    return torch.tensor(values).view(-1, 1, 1, 1)


X = pixels([0.10, 0.45, 0.55, 0.90, 0.90])
Y = torch.tensor([0, 0, 1, 1, 0])  # the last is wrong when clean
UP, DOWN = Shift(0.2), Shift(-0.2)
