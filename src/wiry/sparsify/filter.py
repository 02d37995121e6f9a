"""Filter pruning: whole filters and units go, the ones with the smallest weights first."""

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import channel_groups
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.channels import Scope, select_channels


@registry("sparsifier").register("filter")
@dataclasses.dataclass(frozen=True)
class FilterPruning(Sparsifier):
    """Remove whole filters (channels, hidden units) with the smallest L1 norm; then train on.

    Use: where the network has to become really smaller and faster without sparse kernels
    (`wiry.export.shrink`). At equal sparsity it costs more accuracy than pruning single weights.

    Source: Li et al. 2017, section 3.1, as the arm "filter pruning" of Liao et al. 2020. A group's
    channel is removed with everything it has: filter, bias, norm, and the weights that read it.

    Differs: the share of weights is given, not the number of filters of each layer; columns of
    removed channels count as removed. What shortcuts add up is ranked by the mean over all filters
    that write the channel (the paper takes the shortcut's). The global scope, which the paper does
    not have, compares mean absolute weights, so that the size of a filter does not decide.

    Published: VGG-16 on CIFAR-10, natural training: inference cost down by 34 % at close to the
    original accuracy (abstract of Li et al. 2017). None known for adversarial training.
    """

    budget: ClassVar[Literal["exact", "at-most", "pattern"]] = "at-most"

    sparsity: float = 0.5
    """Share of the prunable weights to remove at least, in [0, 1)."""
    scope: Scope = "layerwise"
    """`layerwise`: the same share of every group's channels; `global`: one ranking over all."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Choose the channels, once, among those that the start mask left."""
        scores = filter_norms(model)
        state.mask = select_channels(model, state, scores, sparsity=self.sparsity, scope=self.scope)


@torch.no_grad()
def filter_norms(model: nn.Module) -> dict[str, Float[Tensor, " channels"]]:
    """Return the L1 norm of each channel's filters over their number of weights, by group.

    Within a group of one layer the order is that of the L1 norm.
    """
    parameters = dict(model.named_parameters())
    scores = {}
    for group in channel_groups(model):
        named = [parameters[name] for name in group.outputs if name in parameters]
        rows = [weight.abs().flatten(1) for weight in named if weight.dim() >= 2]
        scores[group.name] = torch.cat(rows, dim=1).mean(1)
    return scores
