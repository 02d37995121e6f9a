"""The jobs behind the commands: put rooms together, show progress, return what is to be printed."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wiry.core.errors import UserError
from wiry.core.files import read_json
from wiry.core.recipe_file import load_recipe
from wiry.core.run import Run
from wiry.sweep.display import show
from wiry.sweep.ladder import Ladder
from wiry.sweep.outcome import write_outcome
from wiry.sweep.pool import Pool
from wiry.sweep.search import Search, search_root
from wiry.sweep.settings import search_settings
from wiry.sweep.trial import Measurement, measure_stage
from wiry.train.stages import Session, train


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
    check_device(options.device)
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
    pool = Pool(options.workers, Session(device=options.device))
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


def run_recipe(
    path: Path, overrides: list[str], out: Path, device: str, threads: int, console: Console
) -> tuple[Path, list[tuple[str, dict[str, Any]]]]:
    """Train a recipe and evaluate its stages; return the run's folder and the results by stage."""
    check_device(device)
    if threads < 1:
        raise UserError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    recipe = load_recipe(path, overrides)
    pool = Pool(0)
    root = Run.of(recipe, out).root
    pool.active[root] = 0.0
    with show(pool, console):
        run = train(recipe, out, Session(device=device, announce=console.print))
    wanted = recipe.evaluation
    chosen = run.stages if wanted.stages == "all" else run.stages[-1:]
    results = []
    for stage in chosen:
        measurement = Measurement(stage.name, wanted.split, wanted.attacks, wanted.num_samples)
        results.append((stage.name, measure_stage(run, measurement, device=device)))
    return run.root, results


def check_device(device: str) -> None:
    """Check that a device can be used; nothing falls back in silence.

    Raises:
        UserError: for an unknown or absent device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
