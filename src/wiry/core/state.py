"""What a sparsifier remembers between steps, kept apart from the method and from the model.

Saving, resuming and broadcasting are written here once: a method that puts its tensors into
`tensors` cannot forget them.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from wiry.core.mask import Mask


@dataclasses.dataclass
class SparseState:
    """Mask, position and named tensors of a sparsifier in one stage.

    Attributes:
        mask: the current mask; empty means dense.
        step: optimizer steps taken in this stage.
        total_steps: steps this stage will take, for schedules.
        tensors: scores, duals, signs, dense copies by name.
        generator: the sparsifier's own stream, saved with the state.
        transient: what lives from one hook to the next within a step, such as a graph; never saved,
            because checkpoints fall between steps.
    """

    mask: Mask = dataclasses.field(default_factory=Mask)
    step: int = 0
    total_steps: int = 0
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    generator: torch.Generator = dataclasses.field(default_factory=torch.Generator)
    transient: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def progress(self) -> float:
        """Return the share of the stage that is done, in [0, 1]."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, loadable with `weights_only=True`."""
        return {
            "mask": dict(self.mask),
            "step": self.step,
            "total_steps": self.total_steps,
            "tensors": {name: value.detach() for name, value in self.tensors.items()},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over everything `state_dict` returned.

        Tensors that are there already, of the same name and shape, are filled in place, so that an
        optimizer that trains them keeps hold of them.
        """
        self.mask = Mask(saved["mask"])
        self.step, self.total_steps = saved["step"], saved["total_steps"]
        self.tensors = {n: _filled(self.tensors.get(n), v) for n, v in saved["tensors"].items()}
        self.generator.set_state(saved["generator"])

    def to(self, device: torch.device | str) -> None:
        """Move mask and tensors to a device; the generator stays on the CPU."""
        self.mask = self.mask.to(device)
        self.tensors = {name: value.to(device) for name, value in self.tensors.items()}


@torch.no_grad()
def _filled(present: Tensor | None, value: Tensor) -> Tensor:
    if present is None or present.shape != value.shape or present.dtype != value.dtype:
        return value
    return present.copy_(value)
