"""How much a weight matters.

Functions from the model to one score per prunable weight (larger = keep).
"""

import torch
from torch import Tensor, nn

from wiry.core.mask import prunable
from wiry.core.registry import registry
from wiry.core.state import SparseState


@registry("score").register("magnitude")
def magnitude(model: nn.Module, state: SparseState) -> dict[str, Tensor]:
    """Score by absolute value (Han et al. 2015)."""
    return {name: p.detach().abs() for name, p in prunable(model).items()}


@registry("score").register("random")
def random(model: nn.Module, state: SparseState) -> dict[str, Tensor]:
    """Score at random: the control every other score has to beat."""
    return {
        name: torch.rand(p.shape, generator=state.generator).to(p.device)
        for name, p in prunable(model).items()
    }
