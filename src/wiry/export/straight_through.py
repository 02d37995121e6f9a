"""A network that answers like a file and has the gradients of another network.

A file of 8-bit integers has no gradients, and rounding has none worth following. Attacks on it see
its very logits, and go where the network it was made of would have them go (the straight-through
estimator; BPDA in Athalye et al. 2018, section 4.1).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StraightThrough(nn.Module):
    """Logits of one network, gradients of another.

    Args:
        answers: what is attacked.
        slopes: what it is approximately; differentiable.
    """

    def __init__(self, answers: nn.Module, slopes: nn.Module) -> None:
        super().__init__()
        self.answers, self.slopes = answers, slopes

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        with torch.no_grad():
            logits = self.answers(x.detach())
        if not (torch.is_grad_enabled() and x.requires_grad):
            return logits
        slopes = self.slopes(x)
        return logits + (slopes - slopes.detach())
