"""RigL: sparse from the start, weak links move to where the gradient is largest."""

import dataclasses

from torch import Tensor, nn

from wiry.core.mask import prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.rewire import Rewiring, stage_from_scratch


@registry("sparsifier").register("rigl")
@dataclasses.dataclass(frozen=True)
class RigL(Rewiring):
    """Drop the smallest weights and grow those with the largest gradient of the (robust) loss.

    Use: to train sparse from the first step with a budget that holds throughout, where no dense
    training can be paid for. The dense gradient is needed in the few steps in which links move;
    where even that is too much, use `set`.

    Source: Evci et al. 2020, Algorithm 1.

    Differs: updates are a number over the stage, not a step interval; ties go to the lower index.

    Published: none known under adversarial training; the paper trains naturally. `flying-bird` is
    the family's published robust member.
    """

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Keep the dense gradient's size if links move in this step, then mask the gradients."""
        if self.is_update_step(state):
            for name, parameter in prunable(model).items():
                assert parameter.grad is not None, "every prunable weight takes part in the loss"
                state.tensors[f"gradient/{name}"] = parameter.grad.detach().abs()
        super().after_backward(model, state)

    def grow_scores(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the sizes of the dense gradient, which are forgotten after use."""
        return {name: state.tensors.pop(f"gradient/{name}") for name in prunable(model)}


@registry("method").register("rigl")
def rigl_from_scratch(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Train sparse from the start; weak links move to the largest gradients (Evci et al. 2020)."""
    return [stage_from_scratch("rigl", path[-1], dense, epochs, {})]
