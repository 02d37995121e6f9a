"""Bayesian connectivity sampling: sparse from the start, a link whose weight changes sign is gone.

Every weight has a sign for life. Links die by crossing zero and as many are sampled anew at each
step, so the budget holds strictly. The parameters themselves are trained: while a link is active
its weight is sign times strength, and no copy is needed.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from wiry.core.mask import Mask, density, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import component, registry
from wiry.core.state import SparseState
from wiry.sparsify.base import Sparsifier, check_share
from wiry.sparsify.magnitude import select_mask
from wiry.sparsify.resample import draw_absent_, spread_over_layers
from wiry.sparsify.rewire import stage_from_scratch

NEWBORN = 1e-12
"""Strength of a new link: so small that its first gradient alone decides whether it stays."""


@registry("sparsifier").register("bayesian-connectivity")
@dataclasses.dataclass(frozen=True)
class BayesianConnectivity(Sparsifier):
    """Drop links whose weight changes sign and sample as many absent ones anew, at every step.

    The weight of an active link is its sign times a strength above 0. After each step strengths get
    a little noise; a link whose strength is not above 0 is dropped at once, and as many links are
    sampled: layers in proportion to their size, places uniformly among the absent ones. Signs never
    change, not those of absent links either. About half of the new links die at their first step:
    those whose first gradient disagrees with their sign. That is the search.

    Use: to train a sparse robust network without a dense one, at very high sparsity above all. It
    wants the optimizer's own weight decay at 0, because `decay` stands for it (the method of this
    name sees to that). Not for fine-tuning a dense network.

    Source: Ozdenizci & Legenstein 2021, by its code; `l1` and `temperature` are those of Deep
    Rewiring (Bellec et al. 2018).

    Differs: the budget is met from the start, where the original may begin above it. An absent link
    keeps no strength below 0, so it cannot come back by its momentum alone; a re-sampled one has
    the momentum it was left with, as in the original: gradients of absent links are 0, so that
    fades. A sparsifier does not see the learning rate: noise and decay are given as they are at the
    start of the stage and fall tenfold at 50 % and at 75 % of it, as the original's rates do. Signs
    are those of the initial weights, which are as likely + as -.

    Published: none known; the abstract claims to beat robust pruning that starts from a dense
    network, and the benchmark of Piras et al. 2024 has no entry.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are absent, in [0, 1), after every step."""
    scope: Literal["global", "layerwise"] = "global"
    """Where dropped links are replaced: anywhere, or in the layer that lost them."""
    allocation: component("allocation") = "dense-ends"
    """Density of each layer at the start."""
    decay: float = 5e-4
    """Shrinks all parameters by this share at each step (not multiplied by a learning rate)."""
    noise: float = 1e-7
    """Standard deviation of the noise on active strengths (published: 1e-6 x learning rate 0.1)."""
    l1: float = 0.0
    """Taken off every active strength at each step: an L1 prior x learning rate (Deep Rewiring)."""
    temperature: float = 0.0
    """Adds noise of variance 2 x temperature: temperature x learning rate (Deep Rewiring)."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_share(self.decay, "decay")
        for name in ("noise", "l1", "temperature"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {value:g}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Draw a mask of the asked sparsity (a start mask is thinned) and fix the signs."""
        if not state.mask or 1 - density(model, state.mask) < self.sparsity:
            state.mask = select_mask(model, state, self.sparsity, self.allocation, "random")
        parameters = prunable(model)
        state.mask = Mask(
            {n: state.mask.get(n, torch.ones_like(p).bool()) for n, p in parameters.items()}
        )
        with torch.no_grad():
            for name, parameter in parameters.items():
                coin = torch.rand(parameter.shape, generator=state.generator) < 0.5
                sign = torch.where(coin.to(parameter.device), 1.0, -1.0)
                sign = torch.where(parameter == 0, sign, parameter.sign())
                state.tensors[f"sign/{name}"] = sign.to(torch.int8)
                tiny = NEWBORN * sign * state.mask[name]
                parameter.copy_(torch.where(parameter == 0, tiny, parameter))
                state.tensors[_active(name)] = state.mask[name].view(-1).nonzero().squeeze(1)
        state.tensors["num_sampled"] = torch.zeros((), dtype=torch.int64)

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Mask the gradients and decay all parameters, before the optimizer steps (SGDW)."""
        for name, parameter in prunable(model).items():
            if parameter.grad is not None:
                keep_only_(parameter.grad.view(-1), state.tensors[_active(name)])
        shrink = 1 - self.decay * published_curve(state.progress())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(shrink)

    @torch.no_grad()
    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Add noise to the active strengths, drop what is not above 0, sample as many anew."""
        layers = [_Layer.of(name, p, state) for name, p in prunable(model).items()]
        strengths = self._disturbed(torch.cat([layer.strengths for layer in layers]), state)
        parts = strengths.split([layer.places.numel() for layer in layers])
        alive = [part > 0 for part in parts]
        num_alive = torch.stack([part.sum() for part in alive]).tolist()
        num_new = self._num_new(layers, num_alive, state.generator)
        masks = dict(state.mask)
        for layer, part, keep, num in zip(layers, parts, alive, num_new, strict=True):
            mask, places = layer.rewire_(part, keep, num, state.generator)
            masks[layer.name], state.tensors[_active(layer.name)] = mask, places
        state.mask = Mask(masks)
        state.tensors["num_sampled"] += sum(num_new)

    def _disturbed(self, strengths: Tensor, state: SparseState) -> Tensor:
        """Return the strengths after prior and noise of this step."""
        factor = published_curve(state.progress())
        deviation = math.sqrt((self.noise * factor) ** 2 + 2 * self.temperature * factor)
        strengths = strengths - self.l1 * factor
        if deviation > 0:
            noise = torch.randn(strengths.shape, generator=state.generator)
            strengths = strengths.add(noise.to(strengths.device), alpha=deviation)
        return strengths

    def _num_new(
        self, layers: list["_Layer"], num_alive: list[int], generator: torch.Generator
    ) -> list[int]:
        """Return how many links to sample in each layer, together as many as have died."""
        pairs = list(zip(layers, num_alive, strict=True))
        num_dead = [layer.places.numel() - num for layer, num in pairs]
        if self.scope == "layerwise":
            return num_dead
        sizes = [layer.weight.numel() for layer in layers]
        room = [layer.weight.numel() - num for layer, num in pairs]
        return spread_over_layers(sum(num_dead), sizes, room, generator)


@dataclasses.dataclass
class _Layer:
    """The active links of one layer: flat places and strengths."""

    name: str
    weight: Tensor
    kept: Tensor
    sign: Tensor
    places: Tensor
    strengths: Tensor

    @classmethod
    def of(cls, name: str, parameter: nn.Parameter, state: SparseState) -> "_Layer":
        weight, kept = parameter.detach().view(-1), state.mask[name]
        sign, places = state.tensors[f"sign/{name}"].view(-1), state.tensors[_active(name)]
        return cls(name, weight, kept, sign, places, weight[places] * sign[places])

    def rewire_(
        self, strengths: Tensor, alive: Tensor, num_new: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Write the weights of the links that are alive and of new ones.

        Returns:
            The layer's new mask and its new places.
        """
        places, num_alive = self.places, int(alive.sum())
        self.weight.zero_()  # the optimizer may have moved absent weights by their momentum
        if num_alive == places.numel() and not num_new:
            self.weight[places] = strengths * self.sign[places]
            return self.kept, places
        kept, survivors = self.kept.clone(), places[alive]
        kept.view(-1)[places[~alive]] = False
        self.weight[survivors] = strengths[alive] * self.sign[survivors]
        new = draw_absent_(kept.view(-1), num_new, kept.numel() - num_alive, generator)
        self.weight[new] = NEWBORN * self.sign[new].to(self.weight.dtype)
        return kept, torch.cat([survivors, new])


def keep_only_(values: Tensor, places: Tensor) -> None:
    """Set all values to zero but those at the given places."""
    kept = values[places]
    values.zero_()
    values[places] = kept


def _active(name: str) -> str:
    """Return where the state has the flat places of a layer's active links, as the mask has them.

    They are kept because finding them in the mask would be the dearest part of a step.
    """
    return f"active/{name}"


def published_curve(progress: float) -> float:
    """Return the published course of learning rate and decay: a tenth at 50 % and at 75 %."""
    return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


@registry("method").register("bayesian-connectivity")
def bayesian_connectivity_from_scratch(
    path: list[float],
    dense: Stage,
    epochs: int,
    *,
    scope: Literal["global", "layerwise"] = "global",
    allocation: component("allocation") = "dense-ends",
) -> list[Stage]:
    """Train sparse from the start; links that change sign are re-sampled (Ozdenizci 2021)."""
    fields = {"scope": scope, "allocation": allocation}
    stage = stage_from_scratch("bayesian-connectivity", path[-1], dense, epochs, fields)
    optimizer = registry("optimizer").normalize(stage.optimizer)
    if "weight_decay" in registry("optimizer").signature(optimizer["name"]):
        # the sparsifier decays by itself; twice would not be the published strength
        optimizer = registry("optimizer").normalize(optimizer | {"weight_decay": 0.0})
    return [stage.model_copy(update={"optimizer": optimizer})]
