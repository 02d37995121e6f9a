"""Search for a subnetwork: one trained score a weight, the weights themselves stay as they are.

What HYDRA, HARP and robust scratch tickets share. The mask is chosen once a step, after the
optimizer has moved the scores, and used until the next; the gradient passes it straight through.
Which scores a search begins with, how many weights each layer keeps and what trains besides the
scores is up to the methods.
"""

import abc
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage, Start
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.allocate import capacities, check_enough
from wiry.sparsify.plan import density_name, sparsity_of, stage_after
from wiry.sparsify.reparametrise import Reparametrised
from wiry.sparsify.select import keep_counts, restrict


class ScoreSearch(Reparametrised, abc.ABC):
    """Base of the searches; a subclass is a frozen dataclass with a field `sparsity`.

    `state.tensors` holds `score/NAME` (trained), `weight/NAME` (the weights before masking) and
    `alive/NAME` (the start mask, where there is one).
    """

    sparsity: float

    @abc.abstractmethod
    def first_score(self, weight: Tensor, state: SparseState) -> Tensor:
        """Return the scores of a layer at the start of the search, in a tensor of their own."""

    @abc.abstractmethod
    def counts(self, scores: Mapping[str, Tensor], state: SparseState) -> dict[str, int]:
        """Return how many weights each layer keeps now; scores are -inf where none is left."""

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Make the scores; the first mask is chosen when the start weights are in place.

        Raises:
            UserError: if the start mask leaves too few weights.
        """
        weights = {name: p.detach() for name, p in prunable(model).items()}
        check_enough(capacities(weights, state.mask), num_keep(weights, self.sparsity))
        for name, weight in weights.items():
            state.tensors[f"score/{name}"] = self.first_score(weight, state).requires_grad_()
        state.tensors |= {f"alive/{name}": value.clone() for name, value in state.mask.items()}

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the scores."""
        return {f"score/{name}": state.tensors[f"score/{name}"] for name in prunable(model)}

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Take over the start weights in the first step, then write weights times mask."""
        if state.step == 0:
            self.begin(model, state)
        super().before_forward(model, state)

    def begin(self, model: nn.Module, state: SparseState) -> None:
        """Keep the start weights apart and choose the first mask."""
        for name, parameter in prunable(model).items():
            if f"weight/{name}" not in state.tensors:
                state.tensors[f"weight/{name}"] = parameter.detach().clone()
        state.mask = self.select(model, state)

    def select(self, model: nn.Module, state: SparseState) -> Mask:
        """Return the mask of the present scores."""
        sizes = {n: state.tensors[f"score/{n}"].detach().abs() for n in prunable(model)}
        scores = restrict(sizes, start_mask(state))
        return keep_counts(scores, self.counts(scores, state))

    def effective(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the weights times the present mask; the graph leads to the scores."""
        return {
            name: state.tensors[f"weight/{name}"]
            * straight_through(mask, state.tensors[f"score/{name}"].abs())
            for name, mask in state.mask.items()
        }

    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Choose the mask of the new scores and write weights times mask."""
        state.mask = self.select(model, state)
        super().after_step(model, state)

    def finish(self, model: nn.Module, state: SparseState) -> Mask:
        """Leave the start weights of the last mask, unchanged, in the parameters."""
        if state.step == 0:
            self.begin(model, state)
        self.write_effective(model, state)
        return state.mask


class _StraightThrough(torch.autograd.Function):
    """Forward: a given mask; backward: the identity to the scores, the sum to the rate."""

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, rate: Tensor | None, mask: Tensor) -> Tensor:
        return mask.to(scores.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        needs_rate = ctx.needs_input_grad[1]  # type: ignore[attr-defined] # set by autograd
        return gradients[0], gradients[0].sum() if needs_rate else None, None


def straight_through(mask: Tensor, scores: Tensor, rate: Tensor | None = None) -> Tensor:
    """Return a mask as numbers, as if it were `scores + rate` to whoever asks for gradients.

    Source: Ramanujan et al. 2020 (edge-popup); for the rate (a scalar, the kept share of
    the layer) the code of Zhao & Wressnegger 2023 (HARP).

    Args:
        mask: which entries are kept; chosen from the scores elsewhere, once a step.
    """
    return _StraightThrough.apply(scores, rate, mask)  # type: ignore[no-any-return] # a Tensor


def scaled_score(weight: Tensor) -> Tensor:
    """Return scores in proportion to the weights, the largest of the size sqrt(6 / fan-in).

    Source: Sehwag et al. 2020, scaled initialisation. The first mask of a layer is that of its
    largest weights.
    """
    largest = weight.abs().max()
    scale = math.sqrt(6 / fan_in(weight))
    return scale * weight / torch.where(largest > 0, largest, torch.ones_like(largest))


def random_score(weight: Tensor, state: SparseState) -> Tensor:
    """Draw scores evenly from +-1 / sqrt(fan-in), torch's default for layers (edge-popup's)."""
    drawn = torch.rand(weight.shape, generator=state.generator) * 2 - 1
    return (drawn / math.sqrt(fan_in(weight))).to(weight.device)


def fan_in(weight: Tensor) -> int:
    """Return how many inputs an output of the layer reads."""
    return weight[0].numel()


def num_keep(weights: Mapping[str, Tensor], sparsity: float) -> int:
    """Return the exact number of prunable weights that a sparsity leaves."""
    total = sum(weight.numel() for weight in weights.values())
    return total - round(sparsity * total)


def start_mask(state: SparseState) -> Mask:
    """Return the mask that the search started from."""
    kept = {n.removeprefix("alive/"): v for n, v in state.tensors.items() if n.startswith("alive/")}
    return Mask(kept)


def norm_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return scale and shift of the normalisation layers by name."""
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    return {
        f"{name}.{key}" if name else key: parameter
        for name, module in model.named_modules()
        if isinstance(module, kinds)
        for key, parameter in module.named_parameters(recurse=False)
    }


def search_and_finetune(
    method: str, density: float, dense: Stage, epochs: int, fields: Mapping[str, object]
) -> list[Stage]:
    """Return the dense stage, a search that takes a fifth of `epochs`, and fine-tuning."""
    num_search = min(epochs, max(1, round(epochs / 5)))
    sparsifier = {"name": method, "sparsity": sparsity_of(density), **fields}
    search = stage_after(f"{method}-search", density, dense, num_search, sparsifier)
    change = {
        "name": f"{method}-{density_name(density)}",
        "epochs": epochs - num_search,
        "start": Start(weights=search.name, mask=search.name),
        "sparsifier": registry("sparsifier").normalize("fixed"),
    }
    return [dense, search, dense.model_copy(update=change)]
