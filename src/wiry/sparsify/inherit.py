"""Inverse weights inheritance: a small (sparse) network's weights inside a large dense one.

The opposite of pruning: the mask a stage starts from tells which weights are inherited, all others
are new, and the stage ends dense.
"""

import dataclasses
import fnmatch
import math

import torch
from torch import Tensor, nn

from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier
from wiry.sparsify.channels import removed_channels

_PREFIX = "inherited/"


@registry("sparsifier").register("inherit")
@dataclasses.dataclass(frozen=True)
class Inherit(Sparsifier):
    """Let a large dense network inherit the weights of a small sparse one, then train all of it.

    The stage starts from the small network, `start: {weights: small, mask: small}` (leave `score`
    empty); with no mask, everything is inherited and this is `fixed`.

    Use: to test whether a sparse distribution of weights makes a large network more robust, or to
    spend the training of a small network on a large one. Not for a small network: it ends dense.

    Source: Wang, Liao et al. 2020 (Liao et al. 2022), inverse weights inheritance.

    Differs: the paper's new weights, lengths and rates are not known to us, so they are fields.
    `scale: 0` and `outgoing_zero` begin with exactly the small network's outputs. A parameter's
    update is scaled as a whole, so weight decay is scaled too.

    Published: the paper reports a more robust large network; its numbers are not known to us.
    """

    scale: float = 0.1
    """New weights are this times a fresh Kaiming draw (1: as at initialisation, 0: all zero).

    With 0, channels that are new as a whole get no gradient ever: prefer `outgoing_zero`.
    """
    outgoing_zero: bool = False
    """Zero the new weights of inherited channels, so that no new channel reaches the output yet.

    Outputs are exactly the small network's, and new channels learn. Needs `channel_groups()`.
    """
    frozen: float = 0.0
    """Share of the stage during which inherited weights stand still, in [0, 1].

    Running statistics of norms follow the images all the same.
    """
    inherited_rate: float = 1.0
    """Learning rate of inherited weights relative to that of new ones, 0 or more."""
    layers: list[str] = dataclasses.field(default_factory=lambda: ["*"])
    """Names or patterns of the layers that inherit (`features.*`); the others are new."""

    def __post_init__(self) -> None:
        if not 0 <= self.frozen <= 1:
            raise ValueError(f"frozen is a share of the stage in [0, 1], got {self.frozen:g}")
        for name in ("scale", "inherited_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name):g}")
        if not self.layers:
            raise ValueError("layers is empty: nothing would be inherited")
        if self.outgoing_zero and (self.scale == 0 or self.layers != ["*"]):
            raise ValueError(
                "outgoing_zero needs a scale above 0 (new channels are drawn at random) and "
                "layers ['*'] (a layer that does not inherit would be zero)"
            )

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Embed the small network in the dense one and drop the mask.

        Raises:
            UserError: if a pattern in `layers` names no layer, or the model has no channel groups
                where `outgoing_zero` needs them.
        """
        inherited = self._inherited(model, state.mask)
        random = self._new_rows(model, state.mask) if self.outgoing_zero else None
        state.mask = Mask()
        fill_new_(model, inherited, scale=self.scale, generator=state.generator, random=random)
        state.tensors |= {f"{_PREFIX}{name}": value for name, value in inherited.items()}

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Zero the gradients of weights that stand still; keep the values of slower ones."""
        rate = self._rate(state)
        if rate == 1:
            return
        for name, parameter in model.named_parameters():
            inherited = state.tensors[f"{_PREFIX}{name}"]
            if rate == 0 and parameter.grad is not None:
                parameter.grad.masked_fill_(inherited, 0)
            state.transient[f"before/{name}"] = parameter.detach().clone()

    @torch.no_grad()
    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Scale the step of inherited weights: `before + rate * (after - before)`."""
        rate = self._rate(state)
        if rate == 1:
            return
        for name, parameter in model.named_parameters():
            before = state.transient.pop(f"before/{name}")
            slower = before.lerp(parameter, rate) if rate else before
            parameter.copy_(slower.where(state.tensors[f"{_PREFIX}{name}"], parameter))

    def _rate(self, state: SparseState) -> float:
        standing = state.step < round(self.frozen * state.total_steps)
        return 0.0 if standing else self.inherited_rate

    def _inherited(self, model: nn.Module, mask: Mask) -> dict[str, Tensor]:
        """Return for every parameter which of its entries come from the small network."""
        owners = {name: name.rpartition(".")[0] for name, _ in model.named_parameters()}
        for pattern in self.layers:
            if not fnmatch.filter([*owners, *owners.values()], pattern):
                raise UserError(
                    f"sparsifier 'inherit': layers has {pattern!r}, "
                    f"the model has {', '.join(dict.fromkeys(owners.values()))}"
                )
        found = {}
        for name, parameter in model.named_parameters():
            wanted = any(fnmatch.filter([name, owners[name]], pattern) for pattern in self.layers)
            found[name] = torch.full(parameter.shape, wanted, device=parameter.device)
            if name in mask:
                found[name] &= mask[name].to(parameter.device)
        return found

    def _new_rows(self, model: nn.Module, mask: Mask) -> dict[str, Tensor]:
        """Return the rows of channels that the small network does not have, by weight."""
        removed = removed_channels(model, mask)
        return {
            name: removed[group.name] for group in channel_groups(model) for name in group.outputs
        }


@torch.no_grad()
def fill_new_(
    model: nn.Module,
    inherited: dict[str, Tensor],
    *,
    scale: float,
    generator: torch.Generator,
    random: dict[str, Tensor] | None = None,
) -> None:
    """Give every entry that is not inherited its start value; inherited ones stay.

    Weights become `scale` times a normal draw of variance 2 / fan-in, biases 0; norms get scale 1
    and shift 0, and where a norm's scale is new its running mean becomes 0 and its variance 1.

    Args:
        inherited: entries that stay, for every parameter.
        random: rows of each weight that are drawn, by name; new weights in other rows become 0.
            None: all rows.
    """
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, parameter in parameters.items():
        if parameter.dim() >= 2:
            draw = torch.randn(parameter.shape, generator=generator)
            fresh = scale * math.sqrt(2 / parameter[0].numel()) * draw
            if random is not None:
                rows = random.get(name, torch.zeros(len(parameter), dtype=torch.bool)).cpu()
                fresh[~rows] = 0
        else:
            owner, _, key = name.rpartition(".")
            is_scale = key == "weight" and f"{owner}.running_var" in buffers
            fresh = torch.full(parameter.shape, float(is_scale))
            if is_scale:
                buffers[f"{owner}.running_mean"].masked_fill_(~inherited[name], 0.0)
                buffers[f"{owner}.running_var"].masked_fill_(~inherited[name], 1.0)
        parameter.copy_(parameter.where(inherited[name], fresh.to(parameter)))


def equal_epochs(
    small_density: float, small_epochs: float, large_epochs: float, *, dense_epochs: float = 0.0
) -> float:
    """Return the epochs of the dense large network from scratch with the same FLOPs.

    The fair control of inheritance: `dense_epochs + small_density * small_epochs + large_epochs`.
    An epoch is taken to cost as much as its network's forward pass, whatever the attack, so the
    objective has to be the same. Round up for the control's benefit.

    Args:
        small_density: FLOPs of the small network over those of the large one, in [0, 1]
            (`flops_sparse / flops_dense` of its cost; not the density of weights). 1 counts the
            small network as the machine does that cannot skip zeros.
        small_epochs: epochs the small network was trained for.
        large_epochs: epochs of the large network after it inherited.
        dense_epochs: epochs of a dense network spent on finding the small one.

    Raises:
        ValueError: if the density is not a share or a number of epochs is negative.
    """
    if not 0 <= small_density <= 1:
        raise ValueError(f"small_density is a share in [0, 1], got {small_density:g}")
    if min(small_epochs, large_epochs, dense_epochs) < 0:
        raise ValueError("numbers of epochs must be 0 or more")
    return dense_epochs + small_density * small_epochs + large_epochs
