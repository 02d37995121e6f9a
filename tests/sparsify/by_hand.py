"""Steps of a sparsifier by hand, on a network of 20, 30 and 10 units."""

import torch
from torch import nn

from wiry.core.state import SparseState


def begin(method, *, total_steps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    state = SparseState(total_steps=total_steps, generator=torch.Generator().manual_seed(0))
    method.setup(model, state)
    state.mask.apply_(model)
    return model, state


def step(method, model, state, *, shift=0.0):
    """Take one step: gradients of ones, and random changes of the weights."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    method.after_backward(model, state)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=state.generator)
            parameter.add_(noise * (parameter.grad != 0), alpha=shift)
    method.after_step(model, state)
    state.step += 1
