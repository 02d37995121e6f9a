"""Tiny networks for engines: every operator that they have to know, and a sparse classifier."""

import torch
from torch import nn

from wiry.bench.subject import Subject
from wiry.core.mask import Mask, prunable
from wiry.models.base import build_model


class Operators(nn.Module):
    """A network with every kind of operation, normalisation first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.skip = nn.Conv2d(4, 4, 1, stride=2, bias=False)
        self.hidden = nn.Linear(4, 7)
        self.last = nn.Linear(7, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.first((x - 0.5) / 0.25)))
        x = torch.relu(self.second(x) + self.skip(x))
        x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = nn.functional.max_pool2d(x, 2, 1)
        x = torch.relu(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return self.last(torch.relu(self.hidden(x)))


def operators():
    """Return that network as a subject, with running statistics of some kind."""
    torch.manual_seed(0)
    model = Operators()
    model.norm.running_mean.uniform_(-1, 1)
    model.norm.running_var.uniform_(0.5, 2)
    return Subject(model.eval(), Mask(), (3, 8, 8))


def sparse(name="cnn-small", sparsity=0.9, shape=(1, 8, 8), dead=False):
    """Return a network of wiry under a random mask; `dead`: channels gone, too."""
    model = build_model(name, input_shape=shape, num_classes=10, seed=0).eval()
    draw = torch.Generator().manual_seed(0)
    entries = {n: torch.rand(p.shape, generator=draw) >= sparsity for n, p in _weights(model)}
    if dead:
        for group in model.channel_groups():
            for reader, repeat in group.inputs:
                entries[reader][:, : repeat * (group.size // 2)] = False
    mask = Mask(entries)
    mask.apply_(model)
    return Subject(model, mask, shape)


def _weights(model):
    return prunable(model).items()
