"""The protocol every sparsifier follows: set up, three hooks a step, finish.

The defaults here keep a mask as it is, so a method overrides one to three hooks. What a method
remembers goes into `SparseState`, never into the method, which is a frozen dataclass of its
settings.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from wiry.core.mask import Mask
from wiry.core.state import SparseState


class Sparsifier:
    """Base of all sparsifiers; subclasses are frozen dataclasses whose fields are their settings.

    The loop calls, in this order: `setup` once; at each step `before_forward`, the loss and its
    backward pass, `after_backward`, the optimizer, `after_step`; `finish` once. Between steps it
    calls `measured` with what the monitor has found.
    """

    budget: ClassVar[Literal["exact", "at-most", "pattern"]] = "exact"
    """What a field `sparsity` promises of the finished mask.

    `exact`: `round(sparsity * n)` of the n prunable weights are gone; `at-most`: whole groups of
    weights go until no more than asked for are left; `pattern`: a hardware pattern decides.
    """

    watches_layers: ClassVar[bool] = False
    """Whether it sees what passes through the model's layers, with hooks of its own on them."""

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Fill `state`: it comes with the start mask, a generator and `total_steps`.

        Do not train.
        """

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the tensors the optimizer is to train, by name."""
        return dict(model.named_parameters())

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Write effective weights into the parameters, if they differ from the trained ones."""

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Mask, route or add gradients. Default: zero them where the mask is."""
        state.mask.apply_to_gradients_(model)

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Re-apply the mask, drop and grow. Default: re-apply."""
        state.mask.apply_(model)

    def measured(self, model: nn.Module, state: SparseState, row: Mapping[str, float]) -> None:
        """Take note of a measurement of the monitor, such as `validation_robust_accuracy`."""

    def finish(self, model: nn.Module, state: SparseState) -> Mask:
        """Leave final weights in the parameters and return the final mask."""
        return state.mask


def check_share(value: float, name: str) -> None:
    """Check that a share lies in [0, 1).

    Raises:
        ValueError: with the value that was probably meant, if it looks like a percentage.
    """
    if not 0.0 <= value < 1.0:
        hint = f" Did you mean {value / 100:g}?" if 1.0 < value <= 100.0 else ""
        raise ValueError(f"{name} must be in [0, 1), got {value:g}.{hint}")
