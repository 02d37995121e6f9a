"""Run a recipe's stages: place each on its start, train or resume it, write its artifacts.

A stage whose identity was already trained below the same output folder is linked, not trained
again.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch import nn

from wiry.core import dist
from wiry.core.errors import Diverged, UserError
from wiry.core.mask import Mask, density
from wiry.core.recipe import Recipe, Stage, kept_lengths
from wiry.core.run import Run, made_with
from wiry.core.tensors import load_mask, load_tensors, save_mask, save_tensors
from wiry.engine.inner import SparseTwin
from wiry.train.checkpoint import load_checkpoint, remove_checkpoints
from wiry.train.fit import Observer, Training, fit
from wiry.train.observe import Checkpointer, MetricsWriter, WeightKeeper
from wiry.train.prepare import dataset_of, model_of, on_device, prepare
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
    with run.lock() if dist.is_first() else contextlib.nullcontext():
        if dist.is_first():
            run.create(session.device)
        for stage in run.stages:
            if dist.from_first(dist.is_first() and is_there(run, stage, store, session)):
                continue
            _train_stage(run, stage, session)
            if dist.is_first():
                remember_stage(run, stage, store)
            dist.barrier()
    return run


def is_there(run: Run, stage: Stage, store: Path, session: Session) -> bool:
    """Say whether a stage is done, or can be taken over from another run; then it is."""
    if not run.is_done(stage) and not link_equal_stage(run, stage, store, session.device):
        return False
    run.done(stage)
    remove_checkpoints(run.stage_dir(stage))
    remember_stage(run, stage, store)
    return True


@dataclasses.dataclass(frozen=True)
class Placed:
    """A training that stands where it begins or goes on, and who watches it."""

    training: Training
    observers: tuple[Observer, ...]


def _train_stage(run: Run, stage: Stage, session: Session) -> None:
    placed = place_stage(run, stage, session)
    fit(placed.training, placed.observers)
    finish_stage(run, stage, placed.training, session.device)


def place_stage(run: Run, stage: Stage, session: Session) -> Placed:
    """Prepare a stage from its start or its newest resume file, with its observers."""
    folder = run.stage_dir(stage)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = dataset_of(run.recipe)
    training = prepare(run, stage, dataset, session.device)
    kept = kept_lengths(run.stages, stage.name) | {"0it"}
    splits = {
        name: on_device(dataset.split(name), session.device) for name in run.recipe.monitor.splits
    }

    def tell(line: str) -> None:
        if dist.is_first():
            run.log(f"{stage.name}: {line}")
            session.announce(f"{stage.name}: {line}")

    training.twin = SparseTwin(training.model, dataset.input_shape, stage.engine, tell)
    metrics = MetricsWriter(run.recipe.monitor, splits, folder / "metrics.jsonl", tell)
    keeper = WeightKeeper(kept, folder, training.loader.steps_per_epoch)
    for line in load_checkpoint(training, folder, training.identity):
        tell(line)
    metrics.rewind(training.state.step)
    if training.progress.num_batches == 0:
        keeper(training)
        training.state.mask.apply_(training.model)
    if dist.is_first():
        run.log(
            f"{stage.name}: training from batch {training.progress.num_batches} "
            f"of {training.num_batches}"
        )
    dist.barrier()  # a later checkpoint of the first rank must not be read by another
    checkpointer = Checkpointer(folder, session.checkpoint_seconds)
    return Placed(training, (metrics, keeper, checkpointer, *session.observers))


def finish_stage(run: Run, stage: Stage, training: Training, device: str) -> None:
    """Write weights, mask and the DONE mark; drop the resume files."""
    folder = run.stage_dir(stage)
    mask = training.sparsifier.finish(training.model, training.state)
    if training.average is not None:
        images = (batch.x for batch in training.loader.epoch(0))
        training.average.finish(training.model, mask, images)
    mask.apply_(training.model)
    if not dist.is_first():
        return
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
