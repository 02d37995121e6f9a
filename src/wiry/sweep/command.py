"""The jobs behind the commands: put rooms together, show progress, return what is to be printed."""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wiry.core.errors import UserError
from wiry.core.files import read_json
from wiry.core.recipe import Recipe, expand
from wiry.core.recipe_file import load_recipe
from wiry.sweep.display import show
from wiry.sweep.ladder import Ladder
from wiry.sweep.outcome import write_outcome
from wiry.sweep.pool import Pool
from wiry.sweep.search import Search, search_root
from wiry.sweep.settings import search_settings
from wiry.sweep.trial import Measurement, Trial
from wiry.train.stages import Session

Result = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The arguments of `wiry search`, parsed."""

    recipe: Path | None
    data: str | None
    model: str | None
    eps: float | None
    norm: str | None
    methods: tuple[str, ...]
    max_drop: float | None
    min_clean: float | None
    min_robust: float | None
    ladder: Ladder
    seeds: tuple[int, ...]
    sparse_epochs: int | None
    budget_seconds: float | None
    workers: int
    out: Path
    overrides: list[str]
    device: str


def run_search(options: SearchOptions, console: Console) -> tuple[Path, dict[str, Any]]:
    """Search, or continue or find a search that was done; return its folder and outcome."""
    set_device(options.device, 1)
    settings = search_settings(
        options.recipe,
        data=options.data,
        model=options.model,
        eps=options.eps,
        norm=options.norm,
        overrides=options.overrides,
        methods=options.methods,
        max_drop=options.max_drop,
        min_clean=options.min_clean,
        min_robust=options.min_robust,
        ladder=options.ladder,
        seeds=options.seeds,
        sparse_epochs=options.sparse_epochs,
    )
    root = search_root(settings, options.out)
    finished = root / "search.json"
    if finished.exists():
        outcome = read_json(finished)
        if outcome["finished"] and not outcome["stopped"]:
            console.print("This search is finished; nothing is trained again.")
            return root, outcome
    pool = Pool(options.workers, Session(device=options.device, announce=say))
    with pool, show(pool, console):
        search = Search(
            settings,
            options.out,
            pool,
            budget_seconds=options.budget_seconds,
            announce=console.print,
        )
        search.run()
        return root, write_outcome(search)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The arguments of `wiry train`, parsed; no seeds means the recipe's own."""

    recipe: Path
    overrides: list[str]
    out: Path
    device: str
    threads: int
    seeds: tuple[int, ...]
    workers: int


def run_recipe(options: TrainOptions, console: Console) -> list[tuple[Path, list[Result]]]:
    """Train a recipe, once or for several seeds, and evaluate its stages.

    Returns:
        For every run its folder, and its stages' names with their evaluations.
    """
    set_device(options.device, options.threads)
    if len(set(options.seeds)) != len(options.seeds):
        raise UserError(f"--seeds names a seed twice: {', '.join(map(str, options.seeds))}")
    changes = [[f"seed={seed}"] for seed in options.seeds] or [[]]
    recipes = [load_recipe(options.recipe, [*options.overrides, *change]) for change in changes]
    session = Session(device=options.device, announce=say)
    pool = Pool(options.workers if len(recipes) > 1 else 0, session)
    trials = [_trial(recipe, options.out) for recipe in recipes]
    with pool, show(pool, console):
        results = pool.run_parallel([functools.partial(pool.run, trial) for trial in trials])
    return [
        (trial.run().root, [(m.stage, r) for m, r in zip(trial.measurements, rows, strict=True)])
        for trial, rows in zip(trials, results, strict=True)
    ]


def _trial(recipe: Recipe, out: Path) -> Trial:
    """Return a recipe's training with the measurements its evaluation asks for."""
    wanted = recipe.evaluation
    stages = expand(recipe) if wanted.stages == "all" else expand(recipe)[-1:]
    measurements = tuple(
        Measurement(
            stage.name,
            wanted.split,
            wanted.attacks,
            wanted.num_samples,
            measures=tuple(wanted.measures),
        )
        for stage in stages
    )
    return Trial(recipe.model_dump(exclude_defaults=True), out, out, measurements)


def say(line: str) -> None:
    """Print what a training has to tell; a function of a module, so that workers can have it."""
    print(line, file=sys.stderr)


def set_device(device: str, threads: int) -> None:
    """Set this process's compute threads and check that a device can be used.

    Raises:
        UserError: for an unknown or absent device (nothing falls back in silence), or no threads.
    """
    if threads < 1:
        raise UserError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    try:
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise RuntimeError("it must be cpu or cuda")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
