"""Which stages of which recipes can be trained as one, and why others cannot."""

import json

from torch import nn

from wiry.core.recipe import Recipe, Stage
from wiry.core.registry import registry
from wiry.train.prepare import dataset_of, model_of
from wiry.train.replicas.loss import why_not


def signature(recipe: Recipe, stage: Stage) -> str:
    """Return what two stages must have in common to be trained as one.

    Seeds, starts, sparsifiers, lengths, averages and the numbers of the optimizer may differ.
    """
    return json.dumps(
        {
            "data": recipe.data,
            "model": recipe.model,
            "monitor": recipe.monitor.model_dump(),
            "batch_size": stage.batch_size,
            "objective": stage.objective,
            "optimizer": stage.optimizer["name"],
        },
        sort_keys=True,
    )


def why_alone(recipe: Recipe, stage: Stage) -> str | None:
    """Return why a stage must be trained by itself, or None if it can be one of several."""
    if stage.teacher:
        return "it learns from a teacher of its own"
    if stage.engine == "sparse":
        return "its attacks are to search on the sparse engine"
    if registry("sparsifier").build(stage.sparsifier).watches_layers:
        return f"sparsifier {stage.sparsifier['name']!r} watches the layers of one network"
    if (reason := why_not(registry("objective").build(stage.objective))) is not None:
        return reason
    if draws_globally(model_of(recipe, dataset_of(recipe))):
        return "dropout draws from the one global stream"
    return None


def draws_globally(model: nn.Module) -> bool:
    """Say whether a model has a layer that draws random numbers."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())
