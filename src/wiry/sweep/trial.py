"""One trial: train a recipe and measure some of its stages. Doing it twice costs nothing.

A trial is plain data, so that any process on any machine can run it.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wiry.core.mask import Mask
from wiry.core.recipe import Recipe
from wiry.core.registry import load_plugins, registry
from wiry.core.run import Run
from wiry.evaluation.progress import Progress
from wiry.evaluation.record import run_evaluation
from wiry.train.prepare import dataset_of
from wiry.train.stages import Session, load_stage, train


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What to measure on a finished stage.

    Attributes:
        stage: name of the stage.
        attacks: attack specs, run one after the other; the worst case per image counts.
        cascade: run each attack only on what the earlier ones left.
        screened: the attacks are AutoAttack's, to be screened, see `wiry.evaluation.screened`.
        measures: specs of what else is measured.
    """

    stage: str
    split: str
    attacks: list[dict[str, Any]]
    num_samples: int | None = None
    cascade: bool = False
    screened: bool = False
    measures: tuple[dict[str, Any], ...] = ()

    def name(self) -> str:
        """Return the file name of the result: split and a hash of what was measured."""
        flags = [name for name in ("cascade", "screened") if getattr(self, name)]
        what = [self.attacks, self.num_samples, *flags, *self.measures]
        text = json.dumps(what, sort_keys=True)
        return f"{self.split}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A recipe with what to measure after training, and where its run lives."""

    recipe: dict[str, Any]
    out: Path
    store: Path
    measurements: tuple[Measurement, ...] = ()

    def run(self) -> Run:
        """Return the trial's run directory (it may not exist yet)."""
        load_plugins(self.recipe.get("plugins", []))
        return Run.of(Recipe.model_validate(self.recipe), self.out)


def run_trial(trial: Trial, session: Session | None = None) -> list[dict[str, Any]]:
    """Train what is not trained, measure what is not measured, return the measurements in order."""
    session = dataclasses.replace(session or Session(), store=trial.store)
    load_plugins(trial.recipe.get("plugins", []))
    run = train(Recipe.model_validate(trial.recipe), trial.out, session)
    return [measure_stage(run, m, device=session.device) for m in trial.measurements]


def measure_stage(
    run: Run, measurement: Measurement, *, device: str = "cpu", progress: Progress | None = None
) -> dict[str, Any]:
    """Measure a finished stage, or read the result if it is there."""
    model, mask = load_stage(run, measurement.stage)
    folder = run.stage_dir(measurement.stage) / "eval"
    return measure(model, mask, run.recipe, measurement, folder, device=device, progress=progress)


def measure(
    model: nn.Module,
    mask: Mask,
    recipe: Recipe,
    measurement: Measurement,
    folder: Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Attack a network on its recipe's data and write the result to `folder`, once."""
    dataset = dataset_of(recipe)
    x, y = dataset.split(measurement.split)  # type: ignore[arg-type] # checked where it is parsed
    x, y = x[: measurement.num_samples], y[: measurement.num_samples]
    return run_evaluation(
        model.to(device),
        mask.to(device),
        x.to(device),
        y.to(device),
        [registry("attack").build(spec) for spec in measurement.attacks],
        split=measurement.split,
        class_names=dataset.class_names,
        input_shape=dataset.input_shape,
        seed=recipe.seed,
        folder=folder,
        name=measurement.name(),
        cascade=measurement.cascade,
        screened=measurement.screened,
        measures=measurement.measures,
        progress=progress,
    )


def use_one_thread() -> None:
    """Give this process one compute thread: many small trainings share the machine better so."""
    torch.set_num_threads(1)
