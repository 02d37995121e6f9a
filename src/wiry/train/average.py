"""Averages of the weights over the steps of a stage, which become its result: EMA and SWA.

Both respect masks: an entry that has just grown begins its average at its present value, so that
no zeros of the time before are mixed in, and a dropped entry is zero. The training itself does not
see the average; the loop calls `update` after each step and `finish` at the end of the stage.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wiry.core.mask import Mask
from wiry.core.registry import registry


class Average(Protocol):
    """A running average of one model's weights."""

    def update(self, model: nn.Module, mask: Mask, progress: float) -> None:
        """Take in the weights after a step; `progress` is the share of the stage done with it."""
        ...

    def finish(
        self, model: nn.Module, mask: Mask, batches: Iterable[Float[Tensor, "n c h w"]]
    ) -> None:
        """Write the averaged weights, masked, into the model.

        Args:
            batches: training images, to estimate batch statistics with.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, loadable with `weights_only=True`."""
        ...

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        ...


class AverageSettings(Protocol):
    """What the loop needs of a component of the kind "average"."""

    def build(self, model: nn.Module) -> Average:
        """Return an average that begins at the model's present weights."""
        ...


@registry("average").register("ema")
@dataclasses.dataclass(frozen=True)
class Ema:
    """Exponential moving average of weights and running statistics, updated after each step.

    The t-th update (from 0) keeps min(decay, (1 + t) / (10 + t)) of the average, so that short
    stages are not held to their first weights. Integer buffers, such as counts of batches, are
    those of the trained network.

    Source: Polyak & Juditsky 1992; for robust networks Gowal et al. 2020 and Rebuffi et al. 2021,
    who use 0.995. Differs: the warm-up, a common one.
    """

    decay: float = 0.999
    """Share of the average that an update keeps once the warm-up is over, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay:g}")

    def build(self, model: nn.Module) -> Average:
        """Return an average that begins at the model's present weights."""
        return _Ema(self, model)


@registry("average").register("swa")
@dataclasses.dataclass(frozen=True)
class Swa:
    """Mean of the weights after each step of the last part of a stage, each step counted alike.

    At the end, running statistics of batch normalisation are estimated anew with the averaged
    weights. If no step came after `start`, the weights are left as they are.

    Source: Izmailov et al. 2018, Algorithm 1. Differs: a step counts, not an epoch or a cycle, and
    the learning rate is left to the optimizer. An entry that grew on the way is averaged over the
    steps it lived.
    """

    start: float = 0.75
    """Share of the stage after which averaging begins, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"start must be in [0, 1), got {self.start:g}")

    def build(self, model: nn.Module) -> Average:
        """Return an average that takes in nothing before its start."""
        return _Swa(self, model)


class _Running:
    """Averaged tensors by name, the places alive at the last update, and the number of updates."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.average = {name: value.detach().clone() for name, value in tensors.items()}
        self.alive: dict[str, Tensor] = {}
        self.num_updates = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "average": dict(self.average),
            "alive": dict(self.alive),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        device = next(iter(self.average.values())).device
        self.average = {n: value.to(device, copy=True) for n, value in saved["average"].items()}
        self.alive = {n: value.to(device, copy=True) for n, value in saved["alive"].items()}
        self.num_updates = saved["num_updates"]

    def grown(self, mask: Mask) -> dict[str, Tensor]:
        """Return by name the entries that are alive now and were not; remember those alive now."""
        before, self.alive = self.alive, {name: value.clone() for name, value in mask.items()}
        if not self.num_updates:  # what was alive when the average was built is what is not zero
            return {name: value & (self.average[name] == 0) for name, value in mask.items()}
        found = {name: ~value for name, value in before.items() if name not in mask}
        return found | {name: mask[name] & ~before[name] for name in mask if name in before}

    @torch.no_grad()
    def write(self, model: nn.Module, current: dict[str, Tensor], mask: Mask) -> None:
        """Put the averages into the model's tensors; entries grown since the last update stay."""
        grown = self.grown(mask)
        for name, value in self.average.items():
            _settle_(value, current[name], grown.get(name), mask.get(name))
            current[name].copy_(value)


class _Ema(_Running):
    def __init__(self, settings: Ema, model: nn.Module) -> None:
        super().__init__(_floats(model))
        self.settings = settings

    @torch.no_grad()
    def update(self, model: nn.Module, mask: Mask, progress: float) -> None:
        count = self.num_updates
        weight = 1 - min(self.settings.decay, (1 + count) / (10 + count))
        grown = self.grown(mask)
        for name, value in _floats(model).items():
            self.average[name].lerp_(value, weight)
            _settle_(self.average[name], value, grown.get(name), mask.get(name))
        self.num_updates += 1

    def finish(self, model: nn.Module, mask: Mask, batches: Iterable[Tensor]) -> None:
        if self.num_updates:
            self.write(model, _floats(model), mask)


class _Swa(_Running):
    def __init__(self, settings: Swa, model: nn.Module) -> None:
        super().__init__(dict(model.named_parameters()))
        self.settings = settings
        self.grown_at: dict[str, Tensor] = {}  # updates before each entry's life, where any grew

    @torch.no_grad()
    def update(self, model: nn.Module, mask: Mask, progress: float) -> None:
        if progress < self.settings.start:
            return
        grown, count = self.grown(mask), self.num_updates
        for name, value in model.named_parameters():
            new, average = grown.get(name), self.average[name]
            if new is not None:
                self.grown_at.setdefault(name, torch.zeros_like(value)).masked_fill_(new, count)
            if count == 0:
                average.copy_(value)
            else:
                average.add_((value - average) / (count + 1 - self.grown_at.get(name, 0)))
            _settle_(average, value, new, mask.get(name))
        self.num_updates += 1

    def finish(self, model: nn.Module, mask: Mask, batches: Iterable[Tensor]) -> None:
        if self.num_updates:
            self.write(model, dict(model.named_parameters()), mask)
            estimate_statistics_(model, batches)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grown_at": dict(self.grown_at)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        super().load_state_dict(saved)
        device = next(iter(self.average.values())).device
        self.grown_at = {n: value.to(device, copy=True) for n, value in saved["grown_at"].items()}


@torch.no_grad()
def estimate_statistics_(model: nn.Module, batches: Iterable[Float[Tensor, "n c h w"]]) -> None:
    """Set the running statistics of batch normalisation to their mean over the batches.

    Other layers are in eval mode meanwhile; modes are put back. Without such layers no batch is
    drawn.

    Source: Izmailov et al. 2018, section 3.2.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None  # a plain mean over the batches
        for x in batches:
            model(x)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training


def _settle_(
    average: Float[Tensor, "*w"],
    value: Float[Tensor, "*w"],
    grown: Bool[Tensor, "*w"] | None,
    kept: Bool[Tensor, "*w"] | None,
) -> None:
    """Begin the average of grown entries at their value, and drop that of masked-out ones."""
    if grown is not None:
        average.copy_(torch.where(grown, value, average))
    if kept is not None:
        average.mul_(kept)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value for name, value in tensors.items() if value.is_floating_point()}
