"""Which weights are there: a mapping from parameter name to a Boolean tensor.

An absent name is dense.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError


class Mask(Mapping[str, Tensor]):
    """An immutable mapping, sorted by name: parameter name -> bool tensor (True = kept).

    Any parameter may have an entry: where whole channels are removed, their biases and norms go
    with them. Densities count the prunable ones only.

    Args:
        entries: the tensors; they are converted to bool and not copied where they are bool already.
    """

    def __init__(self, entries: Mapping[str, Tensor] | None = None) -> None:
        entries = entries or {}
        self._entries = {name: entries[name].bool() for name in sorted(entries)}

    def __getitem__(self, name: str) -> Tensor:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.num_kept():,} of {self.num_entries():,} kept)"

    def equal(self, other: "Mask") -> bool:
        """Say whether both masks have the same names and the same entries."""
        return self.keys() == other.keys() and all(torch.equal(self[n], other[n]) for n in self)

    def num_kept(self) -> int:
        """Count the kept entries."""
        return sum(int(value.sum()) for value in self.values())

    def num_entries(self) -> int:
        """Count all entries, kept or not."""
        return sum(value.numel() for value in self.values())

    def density(self) -> float:
        """Return kept / all, 1.0 for an empty mask."""
        return self.num_kept() / self.num_entries() if self.num_entries() else 1.0

    def to(self, device: torch.device | str) -> "Mask":
        """Return the mask on a device."""
        return Mask({name: value.to(device) for name, value in self.items()})

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the masked-out entries of the model's parameters to zero.

        Raises:
            UserError: if a name or a shape does not fit the model.
        """
        parameters = dict(model.named_parameters())
        self.check(parameters)
        for name, value in self.items():
            parameters[name].mul_(value)

    @torch.no_grad()
    def apply_to_gradients_(self, model: nn.Module) -> None:
        """Zero the gradients of masked-out entries, so that momentum does not grow there."""
        parameters = dict(model.named_parameters())
        for name, value in self.items():
            if parameters[name].grad is not None:
                parameters[name].grad.mul_(value)  # type: ignore[union-attr] # just checked

    def check(self, parameters: Mapping[str, Tensor]) -> None:
        """Check that every name and shape fits.

        Raises:
            UserError: naming the first entry that does not.
        """
        for name, value in self.items():
            if name not in parameters:
                raise UserError(
                    f"mask entry {name!r} has no parameter in the model; "
                    "is the mask of another model?"
                )
            if parameters[name].shape != value.shape:
                raise UserError(
                    f"mask entry {name!r} has shape {tuple(value.shape)}, "
                    f"the model's parameter {tuple(parameters[name].shape)}"
                )

    def shuffled(self, generator: torch.Generator) -> "Mask":
        """Return a mask with the same count per tensor at random places: a control for tickets."""
        shuffled = {}
        for name, value in self.items():
            order = torch.randperm(value.numel(), generator=generator)
            shuffled[name] = value.cpu().flatten()[order].view(value.shape).to(value.device)
        return Mask(shuffled)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that may be pruned: weights of two or more dimensions.

    A model may narrow the choice with a method `prunable() -> list[str]`.
    """
    parameters = dict(model.named_parameters())
    if callable(chosen := getattr(model, "prunable", None)):
        return {name: parameters[name] for name in chosen()}  # type: ignore[union-attr]
    return {name: p for name, p in parameters.items() if p.dim() >= 2}


def num_alive(model: nn.Module, mask: Mask) -> int:
    """Count the prunable weights that the mask keeps; an absent name counts in full."""
    return sum(int(mask[n].sum()) if n in mask else p.numel() for n, p in prunable(model).items())


def density(model: nn.Module, mask: Mask) -> float:
    """Return the share of the prunable weights that the mask keeps, in [0, 1]."""
    return num_alive(model, mask) / sum(p.numel() for p in prunable(model).values())
