"""Live progress of running trials on a terminal, read from the runs the workers write."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wiry.core.recipe import expand
from wiry.core.recipe_file import load_recipe
from wiry.core.run import read_metrics
from wiry.sweep.pool import Pool


@contextlib.contextmanager
def show(pool: Pool, console: Console, *, interval: float = 0.5) -> Iterator[Progress]:
    """Show a bar per running trial with accuracy so far and time left, until the block ends.

    On a terminal only; elsewhere nothing is drawn, and the caller's lines are the progress.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        done = threading.Event()
        watcher = threading.Thread(
            target=_watch, args=(pool, progress, done, interval), daemon=True
        )
        watcher.start()
        try:
            yield progress
        finally:
            done.set()
            watcher.join()


def _watch(pool: Pool, progress: Progress, done: threading.Event, interval: float) -> None:
    tasks: dict[Path, Any] = {}
    overall = progress.add_task("all", total=None, state="")
    while not done.wait(interval):
        progress.update(overall, state=f"{pool.num_done} trials done")
        for root in list(pool.active):
            if root not in tasks:
                tasks[root] = progress.add_task(root.name, total=1.0, state="starting")
            share, text = stage_progress(root)
            progress.update(tasks[root], completed=share, state=text)
        for root in [r for r in tasks if r not in pool.active]:
            progress.remove_task(tasks.pop(root))


def stage_progress(root: Path) -> tuple[float, str]:
    """Return how far a run is (share of its epochs) and a line with the latest accuracies."""
    try:
        stages = expand(load_recipe(root / "recipe.yaml"))
    except ValueError:
        return 0.0, "starting"
    total = sum(stage.epochs for stage in stages) or 1
    epochs, text = 0.0, "starting"
    for number, stage in enumerate(stages, start=1):
        folder = root / "stages" / f"{number}-{stage.name}"
        if (folder / "DONE").exists():
            epochs, text = epochs + stage.epochs, f"{stage.name}: measuring"
        elif rows := read_metrics(folder / "metrics.jsonl"):
            return (epochs + rows[-1]["epoch"]) / total, f"{stage.name}: {accuracies(rows[-1])}"
    return epochs / total, text


def accuracies(row: dict[str, Any]) -> str:
    """Say the latest accuracies of a metrics row: validation where measured, else training."""
    parts = []
    for key, word in (("accuracy", "clean"), ("robust_accuracy", "robust")):
        for split in ("validation", "test", "train"):
            if f"{split}_{key}" in row:
                parts.append(f"{word} {row[f'{split}_{key}']:.1%}{' (train)' * (split == 'train')}")
                break
    return ", ".join(parts)
