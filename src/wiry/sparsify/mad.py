"""Masking adversarial damage: soft masks trained on the robust loss, then a second-order saliency.

The curvature is estimated per layer from what goes in and which gradient comes back (block-wise
K-FAC); `curvature` records both in the backward pass of the loss.
"""

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from wiry.core.dist import average_
from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.state import SparseState
from wiry.sparsify.allocate import capacities, check_enough
from wiry.sparsify.base import check_share
from wiry.sparsify.curvature import Recorder, linear_layers, saliency
from wiry.sparsify.reparametrise import Reparametrised
from wiry.sparsify.score_search import search_and_finetune
from wiry.sparsify.select import keep_largest, restrict

_OPEN = math.log(math.e - 1)  # softplus of it is 1: the weight as it is
_SHUT = math.log(math.expm1(1e-4))  # softplus of it is 1e-4, the least of the published code


@registry("sparsifier").register("mad")
@dataclasses.dataclass(frozen=True)
class Mad(Reparametrised):
    """Train soft masks on the robust loss, weights frozen; prune what changed least, by curvature.

    A weight w is softened to w softplus(s), between 1e-4 and all of it. With the change dw and
    block-wise K-FAC curvature H (one block an output), a weight's saliency is its part of
    1/2 dw' H dw, averaged over the steps. The lowest are removed: in one ranking over all layers
    but the classifier, and row by row in the classifier.

    Use: as the search between robust dense training and fine-tuning, with Adam at rate 0.1; the
    method of the same name plans all three. Not for small perceptrons, where it fell
    far behind magnitudes; our rendering of the published 20 steps a batch did so too.

    Source: Lee et al. 2022 and their code (masks, ranking); K-FAC of Martens and Grosse
    2015 and, for convolutions, Grosse and Martens 2016.

    Differs: they take 20 Adam steps on each batch with a fresh mask and score after the last. The
    loop takes one step a batch, so here a mask lives for one of `num_rounds` rounds, trains on the
    batches of the round, and is scored at every step with that step's curvature; saliency grows
    with the square of the change, so the late steps of a round decide. Batch normalisation is in
    training mode. Every image the loss looks at counts, the clean ones of TRADES too. Biases stay.
    Counts are exact; between weights of equal saliency (such as none) the larger magnitude stays.

    Published: ResNet-18 on CIFAR-10, clean / AutoAttack at 0.031 (AdversarialPruningBenchmark):
    73.67/41.10, 70.70/38.96, 58.90/29.26 at 90 / 95 / 99 % sparsity.
    """

    sparsity: float = 0.9
    """Share of the prunable weights that are removed, in [0, 1)."""
    num_rounds: int = 10
    """How often the soft masks start anew, evenly over the stage; a round has two steps or more."""

    watches_layers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds must be at least 1, got {self.num_rounds}")

    def setup(self, model: nn.Module, state: SparseState) -> None:
        """Make the open soft masks.

        Raises:
            UserError: if a prunable weight belongs to no linear layer or convolution, or the start
                mask leaves too few.
        """
        linear_layers(model)
        weights = prunable(model)
        check_enough(capacities(weights, state.mask), self._num_keep(weights))
        for name, weight in weights.items():
            soft = torch.full_like(weight, _OPEN).requires_grad_()
            state.tensors[f"soft/{name}"] = soft
            state.tensors[f"saliency/{name}"] = torch.zeros_like(weight)

    def trainable(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the soft masks."""
        return {f"soft/{name}": state.tensors[f"soft/{name}"] for name in prunable(model)}

    def before_forward(self, model: nn.Module, state: SparseState) -> None:
        """Soften the weights, and record activations and output gradients from now on."""
        if state.step == 0:
            for name, parameter in prunable(model).items():
                state.tensors[f"weight/{name}"] = parameter.detach().clone()
        super().before_forward(model, state)
        state.transient["recorder"] = Recorder(linear_layers(model))

    def effective(self, model: nn.Module, state: SparseState) -> dict[str, Tensor]:
        """Return the softened weights; the graph leads to the masks."""
        return {
            name: state.tensors[f"weight/{name}"]
            * nn.functional.softplus(state.tensors[f"soft/{name}"])
            for name in prunable(model)
        }

    def after_backward(self, model: nn.Module, state: SparseState) -> None:
        """Add this step's saliency, then send the gradients to the masks."""
        recorder = state.transient.pop("recorder")
        recorder.stop()
        layers = linear_layers(model)
        found = {}
        for name, soft in state.transient["effective"].items():
            change = state.tensors[f"weight/{name}"] - soft.detach()
            found[name] = saliency(layers[name], change, recorder.taken(name))
        average_(found.values())
        for name, value in found.items():
            state.tensors[f"saliency/{name}"].add_(value)
        super().after_backward(model, state)

    @torch.no_grad()
    def after_step(self, model: nn.Module, state: SparseState) -> None:
        """Keep the masks in their bounds, open them at the end of a round; prune at the last."""
        done = state.step + 1
        ended = self._num_rounds_done(done, state) > self._num_rounds_done(state.step, state)
        for name in prunable(model):
            soft = state.tensors[f"soft/{name}"]
            if ended:
                soft.fill_(_OPEN)
            soft.clamp_(_SHUT, _OPEN)
        super().after_step(model, state)
        if done == state.total_steps:
            self._prune(model, state)

    def finish(self, model: nn.Module, state: SparseState) -> Mask:
        """Prune a stage without steps (by magnitude, as nothing else is known); return the mask."""
        if state.step == 0:
            self._prune(model, state)
        return state.mask

    def _num_rounds_done(self, step: int, state: SparseState) -> int:
        # a round of one step would score masks that are still open
        num_rounds = max(1, min(self.num_rounds, state.total_steps // 2))
        return step * num_rounds // state.total_steps

    def _num_keep(self, weights: dict[str, nn.Parameter]) -> int:
        total = sum(weight.numel() for weight in weights.values())
        return total - round(self.sparsity * total)

    @torch.no_grad()
    def _prune(self, model: nn.Module, state: SparseState) -> None:
        """Choose the mask, and leave the unsoftened weights that it keeps."""
        weights = prunable(model)
        for name, parameter in weights.items():
            parameter.copy_(state.tensors.get(f"weight/{name}", parameter))
        saliencies = {name: state.tensors[f"saliency/{name}"] for name in weights}
        scores = restrict(_ranks(saliencies, weights), state.mask)
        state.mask = self._select(scores, state.mask, self._num_keep(weights))
        state.mask.apply_(model)

    def _select(self, scores: dict[str, Tensor], alive: Mask, num_keep: int) -> Mask:
        """Keep the best of each row of the last layer, and the best of all others together."""
        *others, classifier = scores
        rows = scores[classifier].flatten(1)
        per_row = min(
            rows.shape[1] - int(self.sparsity * rows.shape[1]), num_keep // max(1, len(rows))
        )
        if not others:
            return Mask({classifier: keep_largest(scores[classifier], num_keep)})
        last = torch.stack([keep_largest(row, per_row) for row in rows]).view_as(scores[classifier])
        last &= alive.get(classifier, torch.tensor(True, device=last.device))
        room = sum(capacities({name: scores[name] for name in others}, alive).values())
        if int(last.sum()) < (need := num_keep - room):  # a start mask left little elsewhere
            last = keep_largest(scores[classifier], need)
        ranking = torch.cat([scores[name].flatten() for name in others])
        kept = keep_largest(ranking, num_keep - int(last.sum()))
        parts = kept.split([scores[name].numel() for name in others])
        masks = {n: part.view_as(scores[n]) for n, part in zip(others, parts, strict=True)}
        return Mask(masks | {classifier: last})


def _ranks(saliencies: dict[str, Tensor], weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return each weight's place in the order by saliency, then magnitude; larger = keep."""
    values = torch.cat([value.flatten() for value in saliencies.values()])
    sizes = torch.cat([weights[name].detach().abs().flatten() for name in saliencies])
    order = sizes.sort(stable=True).indices
    order = order[values[order].sort(stable=True).indices]
    ranks = torch.empty_like(order, dtype=torch.double)
    ranks[order] = torch.arange(len(order), dtype=torch.double, device=order.device)
    parts = ranks.split([value.numel() for value in saliencies.values()])
    return {n: part.view_as(saliencies[n]) for n, part in zip(saliencies, parts, strict=True)}


@registry("method").register("mad")
def mad(path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Score the dense network's weights by soft masks and curvature, prune it, fine-tune."""
    first, search, finetune = search_and_finetune("mad", path[-1], dense, epochs, {})
    adam = registry("optimizer").normalize({"name": "adam", "lr": 0.1})
    return [first, search.model_copy(update={"optimizer": adam}), finetune]
