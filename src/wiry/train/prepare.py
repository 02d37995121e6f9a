"""Place a stage on its start: model, weights, mask, teacher, sparsifier, optimizer and loader."""

import functools
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wiry.core import dist
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe, Stage, kept_lengths, split_reference
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.run import Run
from wiry.core.state import SparseState
from wiry.core.tensors import load_mask, load_tensors
from wiry.core.types import to_steps
from wiry.data.base import Dataset, build_dataset, mean_std
from wiry.data.loader import Loader
from wiry.models.base import build_model
from wiry.train.fit import Training
from wiry.train.observe import kept_path


def prepare(run: Run, stage: Stage, dataset: Dataset, device: str) -> Training:
    """Build the model, place it on its start and set up sparsifier, optimizer and loader."""
    seed = run.recipe.seed
    x, y = on_device(dataset.split("train"), device)
    loader = _loader(stage, dataset, (x, y), seed, device)
    objective = _objective(run, stage, dataset, device)
    sparsifier = registry("sparsifier").build(stage.sparsifier)
    settings = registry("optimizer").build(stage.optimizer)
    num_batches = stage.epochs * loader.steps_per_epoch
    model = model_of(run.recipe, dataset).to(device)
    _check_last_batch(model, stage, min(stage.batch_size, loader.last_batch_size))
    _check_kept_lengths(run, stage, num_batches, loader.steps_per_epoch)
    state = SparseState(
        mask=_start_mask(run, stage).to(device),
        total_steps=num_batches * objective.replays,
        generator=stream(seed, stage.name, "sparsifier"),
    )
    model.load_state_dict(_weights(run, stage, stage.start.score or stage.start.weights, dataset))
    state.mask.apply_(model)
    sparsifier.setup(model, state)
    if stage.start.score:
        model.load_state_dict(_weights(run, stage, stage.start.weights, dataset))
    optimizer = settings.build(sparsifier.trainable(model, state).values())
    return Training(
        name=stage.name,
        identity=run.stage_identity(stage),
        seed=seed,
        model=model,
        loader=loader,
        objective=objective,
        sparsifier=sparsifier,
        state=state,
        settings=settings,
        optimizer=optimizer,
        num_batches=num_batches,
        average=registry("average").build(stage.average).build(model) if stage.average else None,
    )


def _objective(run: Run, stage: Stage, dataset: Dataset, device: str) -> Any:
    """Build the stage's objective, with its teacher if it has one."""
    objective = registry("objective").build(stage.objective)
    if not stage.teacher:
        return objective
    if not hasattr(objective, "with_teacher"):
        raise UserError(
            f"stage {stage.name!r} has a teacher, but objective {stage.objective['name']!r} does "
            "not learn from one; remove `teacher` or choose an objective such as distillation"
        )
    teacher = model_of(run.recipe, dataset)
    teacher.load_state_dict(_weights(run, stage, stage.teacher, dataset))
    return objective.with_teacher(teacher.to(device).eval().requires_grad_(False))


def _loader(
    stage: Stage, dataset: Dataset, images: tuple[Tensor, Tensor], seed: int, device: str
) -> Loader:
    try:
        return Loader(
            *images,
            batch_size=stage.batch_size,
            seed=seed,
            stage=stage.name,
            augment=dataset.augment,
            device=device,
            num_extra=dataset.num_extra,
            extra_share=dataset.extra_share,
        )
    except ValueError as error:
        raise UserError(f"stage {stage.name!r}: {error}") from error


def _check_last_batch(model: nn.Module, stage: Stage, smallest: int) -> None:
    """Refuse a smallest batch that ranks or batch normalisation cannot work with."""
    ranks = dist.world_size()
    if smallest < ranks:
        raise UserError(
            f"stage {stage.name!r}: a batch of {smallest} images cannot be split over {ranks} "
            "processes; choose another batch_size"
        )
    normalizes = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if normalizes and smallest // ranks == 1:
        raise UserError(
            f"stage {stage.name!r}: its batches of {stage.batch_size} end with a batch of one (on "
            "a process), and batch normalisation needs two; choose another batch_size"
        )


def _check_kept_lengths(run: Run, stage: Stage, num_batches: int, per_epoch: int) -> None:
    """Refuse a later stage's reference to a point that this stage does not reach."""
    for length in kept_lengths(run.stages, stage.name):
        if to_steps(length, per_epoch) > num_batches:
            raise UserError(
                f"a stage starts from {stage.name}@{length}, but {stage.name!r} has only "
                f"{num_batches} batches"
            )


def _weights(run: Run, stage: Stage, reference: str, dataset: Dataset) -> dict[str, Tensor]:
    """Return the weights that a start of this stage refers to."""
    if reference in ("init", "reinit"):
        names = ("init",) if reference == "init" else (stage.name, "init")
        return model_of(run.recipe, dataset, names).state_dict()
    name, length = split_reference(reference)
    file = kept_path(Path(), length).as_posix() if length else "weights.safetensors"
    return load_tensors(run.verified(name, file))


def _start_mask(run: Run, stage: Stage) -> Mask:
    name, shuffled = split_reference(stage.start.mask)
    if name == "none":
        return Mask()
    mask = load_mask(run.verified(name, "mask.safetensors"))
    return mask.shuffled(stream(run.recipe.seed, stage.name, "shuffle")) if shuffled else mask


def model_of(recipe: Recipe, dataset: Dataset, names: tuple[str, ...] = ("init",)) -> nn.Module:
    """Build a recipe's model with the initial weights of its seed."""
    return build_model(
        recipe.model,
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        seed=recipe.seed,
        names=names,
        statistics=mean_std(dataset),
    )


def dataset_of(recipe: Recipe) -> Dataset:
    """Return a recipe's data set; the last few are kept in memory."""
    return _dataset(json.dumps(recipe.data, sort_keys=True))


@functools.lru_cache(maxsize=2)
def _dataset(spec: str) -> Dataset:
    return build_dataset(json.loads(spec))


def on_device(split: tuple[Tensor, Tensor], device: str) -> tuple[Tensor, Tensor]:
    """Return a split on a device."""
    return split[0].to(device), split[1].to(device)
