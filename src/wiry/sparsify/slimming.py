"""Network slimming: an L1 penalty on the scales of batch normalisation tells what can go."""

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.channels import ChannelGroup, channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.channels import Scope, select_channels
from wiry.sparsify.rewire import stage_from_scratch


@registry("sparsifier").register("slimming")
@dataclasses.dataclass(frozen=True)
class NetworkSlimming(Sparsifier):
    """Push batch-norm scales to zero with L1, remove the channels with the smallest, fine-tune.

    Use: as `filter`, for networks with batch normalisation, where the layers may keep different
    shares of their channels. Refuses a model that has a channel group without batch normalisation.

    Source: Liu et al. 2017, sections 3.2 and 3.3 (the penalty by sub-gradient descent, one global
    threshold on the scales), as the arm "network slimming" of Liao et al. 2020.

    Differs: the share of weights is given, not of channels; scales start at 1, not at 0.5; one
    channel of each group always stays; what shortcuts add up is removed together, ranked by the
    mean of its scales (the paper lets a selection layer after the shortcut choose). One pass.

    Published: VGG on CIFAR-10, natural training, 70 % of the channels removed: 93.56 % after
    fine-tuning against 93.62 % dense, 2.42 of 20.04 million parameters (a public re-implementation,
    foolwood/pytorch-slimming). None known for adversarial training.
    """

    budget: ClassVar[Literal["exact", "at-most", "pattern"]] = "at-most"

    sparsity: float = 0.5
    """Share of the prunable weights to remove at least, in [0, 1)."""
    l1: float = 1e-4
    """Weight of the penalty on the scales (the paper: 1e-4 for VGG, 1e-5 for ResNet)."""
    search: float = 0.5
    """Share of the stage with the penalty; then channels go and the rest is fine-tuning."""
    scope: Scope = "global"
    """`global`: one ranking over all channels; `layerwise`: the same share of every group."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        if not 0 <= self.search <= 1:
            raise ValueError(f"search is a share of the stage in [0, 1], got {self.search:g}")
        if self.l1 < 0:
            raise ValueError(f"l1 must be 0 or more, got {self.l1:g}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Prune at once if there is no step with the penalty.

        Else only try it, so that a model without norms or a target out of reach is refused now.
        """
        mask = self._select(model, state)
        if self._num_search_steps(state) == 0:
            state.mask = mask

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Add the penalty's gradient while it is on, then mask the gradients."""
        if state.step < self._num_search_steps(state):
            parameters = dict(model.named_parameters())
            for name in (name for names in _scales(model).values() for name in names):
                scale = parameters[name]
                assert scale.grad is not None, "every norm takes part in the loss"
                scale.grad.add_(scale.detach().sign(), alpha=self.l1)
        super().after_backward(model, state)

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Remove channels after the last step with the penalty; re-apply the mask."""
        if state.step + 1 == self._num_search_steps(state):
            state.mask = self._select(model, state)
        super().after_step(model, state)

    def _num_search_steps(self, state: SparseState) -> int:
        return round(self.search * state.total_steps)

    def _select(self, model: nn.Module, state: SparseState) -> Mask:
        scores = mean_scales(model)
        return select_channels(model, state, scores, sparsity=self.sparsity, scope=self.scope)


@torch.no_grad()
def mean_scales(model: nn.Module) -> dict[str, Float[Tensor, " channels"]]:
    """Return each channel's mean absolute scale over the norms of its group, by group.

    Raises:
        UserError: if a group has no norm.
    """
    parameters = dict(model.named_parameters())
    return {
        group: torch.stack([parameters[name].abs() for name in names]).mean(0)
        for group, names in _scales(model).items()
    }


def _scales(model: nn.Module) -> dict[str, list[str]]:
    found = {group.name: _scales_of(model, group) for group in channel_groups(model)}
    without = [name for name, names in found.items() if not names]
    if without or not found:
        which = f"{without[0]!r} has none" if without else "there are no groups"
        raise UserError(
            "sparsifier 'slimming' needs batch normalisation in every channel group of the "
            f"model, but {which}; take 'filter', or a model such as cnn-small, resnet18 or vgg16"
        )
    return found


def _scales_of(model: nn.Module, group: ChannelGroup) -> list[str]:
    owners = {name.rpartition(".")[0] for name in group.outputs if name.endswith(".running_var")}
    scales = (f"{owner}.weight" for owner in owners)
    return sorted(name for name in scales if name in group.outputs)


@registry("method").register("slimming")
def slimming_from_scratch(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Train with L1 on batch-norm scales, remove channels, fine-tune (Liu et al. 2017)."""
    search = dense.epochs / max(1, dense.epochs + epochs)
    fields = {"search": round(search, 6)}
    return [stage_from_scratch("slimming", path[-1], dense, epochs, fields)]
