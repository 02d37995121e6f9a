"""Run a recipe's stages: place each on its start, train or resume it, write its artifacts.

A stage whose identity was already trained below the same output folder is linked, not trained
again.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from wiry.core.errors import Diverged, UserError
from wiry.core.mask import Mask, density
from wiry.core.recipe import Recipe, Stage, kept_lengths, split_reference
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.run import Run, made_with
from wiry.core.state import SparseState
from wiry.core.tensors import load_mask, load_tensors, save_mask, save_tensors
from wiry.core.types import to_steps
from wiry.data.base import Dataset, build_dataset, mean_std
from wiry.data.loader import Loader
from wiry.models.base import build_model
from wiry.train.checkpoint import load_checkpoint, remove_checkpoints
from wiry.train.fit import Observer, Training, fit
from wiry.train.observe import Checkpointer, MetricsWriter, WeightKeeper, kept_path
from wiry.train.share import link_equal_stage, remember_stage


def silent(line: str) -> None:
    """Announce nothing."""


@dataclasses.dataclass(frozen=True)
class Session:
    """How to run, as opposed to what: nothing here changes a result.

    Attributes:
        checkpoint_seconds: least time between two resume files; 0 writes one after every batch.
        observers: called after every batch.
        announce: called with a line of text on what happens.
        store: folder in which equal stages of other runs are looked for; default: the output
            folder.
    """

    device: str = "cpu"
    checkpoint_seconds: float = 10.0
    observers: tuple[Observer, ...] = ()
    announce: Callable[[str], None] = silent
    store: Path | None = None


def train(recipe: Recipe, out: Path, session: Session | None = None) -> Run:
    """Train every stage of a recipe that is not done yet and return its run.

    Raises:
        UserError: for a mistake in the recipe that only shows when it runs, or a damaged file.
    """
    session = session or Session()
    run = Run.of(recipe, out)
    store = session.store or out
    with run.lock():
        run.create(session.device)
        for stage in run.stages:
            if run.is_done(stage):
                run.done(stage)
                remove_checkpoints(run.stage_dir(stage))
                remember_stage(run, stage, store)
                continue
            if link_equal_stage(run, stage, store, session.device):
                continue
            _train_stage(run, stage, session)
            remember_stage(run, stage, store)
    return run


def _train_stage(run: Run, stage: Stage, session: Session) -> None:
    folder = run.stage_dir(stage)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = dataset_of(run.recipe)
    training = _prepare(run, stage, dataset, session)
    kept = kept_lengths(run.stages, stage.name) | {"0it"}
    splits = {name: _on(dataset.split(name), session.device) for name in run.recipe.monitor.splits}
    metrics = MetricsWriter(run.recipe.monitor, splits, folder / "metrics.jsonl")
    keeper = WeightKeeper(kept, folder, training.loader.steps_per_epoch)
    for line in load_checkpoint(training, folder, training.identity):
        run.log(f"{stage.name}: {line}")
        session.announce(f"{stage.name}: {line}")
    metrics.rewind(training.state.step)
    if training.progress.num_batches == 0:
        keeper(training)
        training.state.mask.apply_(training.model)
    run.log(
        f"{stage.name}: training from batch {training.progress.num_batches} "
        f"of {training.num_batches}"
    )
    checkpointer = Checkpointer(folder, session.checkpoint_seconds)
    fit(training, (metrics, keeper, checkpointer, *session.observers))
    _finish(run, stage, training, session.device)


def _prepare(run: Run, stage: Stage, dataset: Dataset, session: Session) -> Training:
    """Build the model, place it on its start and set up sparsifier, optimizer and loader."""
    seed = run.recipe.seed
    x, y = _on(dataset.split("train"), session.device)
    loader = Loader(
        x,
        y,
        batch_size=stage.batch_size,
        seed=seed,
        stage=stage.name,
        augment=dataset.augment,
        device=session.device,
    )
    objective = registry("objective").build(stage.objective)
    sparsifier = registry("sparsifier").build(stage.sparsifier)
    settings = registry("optimizer").build(stage.optimizer)
    num_batches = stage.epochs * loader.steps_per_epoch
    model = model_of(run.recipe, dataset).to(session.device)
    _check_last_batch(model, stage, len(y))
    _check_kept_lengths(run, stage, num_batches, loader.steps_per_epoch)
    state = SparseState(
        mask=_start_mask(run, stage).to(session.device),
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
    )


def _check_last_batch(model: nn.Module, stage: Stage, num_images: int) -> None:
    """Refuse a last batch of one image where batch statistics are needed."""
    normalizes = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if normalizes and (stage.batch_size == 1 or num_images % stage.batch_size == 1):
        raise UserError(
            f"stage {stage.name!r}: {num_images} images in batches of {stage.batch_size} have a "
            "batch of one, and batch normalisation needs two; choose another batch_size"
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


def _finish(run: Run, stage: Stage, training: Training, device: str) -> None:
    """Write weights, mask and the DONE mark; drop the resume files."""
    folder = run.stage_dir(stage)
    mask = training.sparsifier.finish(training.model, training.state)
    mask.apply_(training.model)
    if not all(bool(p.isfinite().all()) for p in training.model.parameters()):
        raise Diverged(f"stage {stage.name!r}: weights are not finite after the last step")
    save_tensors(folder / "weights.safetensors", training.model.state_dict())
    save_mask(folder / "mask.safetensors", mask)
    run.mark_done(
        stage,
        {
            "stage": stage.name,
            "steps": training.state.step,
            "epochs": stage.epochs,
            "seconds": round(training.progress.seconds, 3),
            "density": density(training.model, mask),
            "made_with": made_with(device),
        },
    )
    remove_checkpoints(folder)
    run.log(f"{stage.name}: done in {training.progress.seconds:.1f} s")


def load_stage(run: Run, stage: Stage | str) -> tuple[nn.Module, Mask]:
    """Return the trained model of a finished stage in eval mode, and its mask."""
    model = model_of(run.recipe, dataset_of(run.recipe))
    path = run.verified(stage, "weights.safetensors")
    try:
        model.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the recipe's model: {error}") from error
    return model.eval(), load_mask(run.verified(stage, "mask.safetensors"))


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


def _on(split: tuple[Tensor, Tensor], device: str) -> tuple[Tensor, Tensor]:
    return split[0].to(device), split[1].to(device)
