"""The job behind `wiry compare`: put the rooms together, show progress, return the outcome."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from wiry.sweep.command import say, set_device
from wiry.sweep.compare import Comparison, read_comparison
from wiry.sweep.compare_settings import CompareSettings
from wiry.sweep.display import show
from wiry.sweep.pool import Pool
from wiry.train.stages import Session


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """How `wiry compare` is to run, besides what it compares."""

    workers: int
    out: Path
    device: str


def run_compare(
    settings: CompareSettings, options: CompareOptions, console: Console
) -> tuple[Path, dict[str, Any]]:
    """Compare, or continue or find a comparison that was done; return its folder and outcome."""
    set_device(options.device, 1)
    root = settings.root(options.out)
    if read_comparison(root).get("finished"):
        console.print("This comparison is finished; nothing is trained again.")
        return root, read_comparison(root)
    pool = Pool(options.workers, Session(device=options.device, announce=say))
    with pool, show(pool, console):
        comparison = Comparison(settings, options.out, pool, announce=console.print)
        return root, comparison.run()
