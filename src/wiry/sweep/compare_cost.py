"""The training cost of finished runs, with one count for all stages of equal objective."""

import json

from torch import nn

from wiry.core.recipe import Recipe, Stage
from wiry.core.registry import registry
from wiry.core.run import Run, read_metrics
from wiry.evaluation.training_cost import (
    TrainingCost,
    flops_per_image,
    layer_shares,
    training_cost,
)
from wiry.train.stages import dataset_of, model_of

NUM_IMAGES = 16
"""Images in the step that is counted: the operations of an image do not depend on the others."""


class CostCounter:
    """Counts what runs have cost to train; what it has counted once it remembers."""

    def __init__(self) -> None:
        self._per_image: dict[str, float] = {}
        self._shares: dict[str, dict[str, float]] = {}

    def of(self, run: Run) -> TrainingCost:
        """Return the cost of all stages of a finished run, as if each was trained for it alone."""
        total = TrainingCost(0.0, 0.0)
        for stage in run.stages:
            replays = registry("objective").build(stage.objective).replays
            num_images = len(dataset_of(run.recipe).train_y) * stage.epochs * replays
            rows = read_metrics(run.stage_dir(stage) / "metrics.jsonl")
            per_image, shares = self._counted(run.recipe, stage)
            total += training_cost(per_image, num_images, rows, shares)
        return total

    def _counted(self, recipe: Recipe, stage: Stage) -> tuple[float, dict[str, float]]:
        network = json.dumps([recipe.data, recipe.model], sort_keys=True)
        step = network + json.dumps([stage.objective, stage.teacher != ""], sort_keys=True)
        if step not in self._per_image:
            self._per_image[step] = _flops(recipe, stage)
        if network not in self._shares:
            dataset = dataset_of(recipe)
            self._shares[network] = layer_shares(model_of(recipe, dataset), dataset.input_shape)
        return self._per_image[step], self._shares[network]


def _flops(recipe: Recipe, stage: Stage) -> float:
    dataset = dataset_of(recipe)
    model = model_of(recipe, dataset)
    objective = registry("objective").build(stage.objective)
    if stage.teacher:
        objective = objective.with_teacher(_frozen(model_of(recipe, dataset)))
    x, y = dataset.train_x[:NUM_IMAGES], dataset.train_y[:NUM_IMAGES]
    return flops_per_image(model, objective, x, y)


def _frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)
