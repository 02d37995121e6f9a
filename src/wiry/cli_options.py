"""Options that several commands share, so that they mean and say the same everywhere."""

import os
from pathlib import Path
from typing import Annotated

import typer

CORES = os.cpu_count() or 1

DenseRecipe = Annotated[
    Path | None, typer.Argument(help="Recipe; its first stage is the dense training.")
]
Data = Annotated[str | None, typer.Option(help="Data set [default: digits].")]
Model = Annotated[str | None, typer.Option(help="Model, if not the recipe's.")]
Eps = Annotated[str | None, typer.Option(help="Attack budget, such as 0.15 or 8/255.")]
Norm = Annotated[str | None, typer.Option(help="linf, l2 or l1.")]
Workers = Annotated[int, typer.Option(min=0, max=1024, help="Processes; 0: this one.")]
Out = Annotated[Path, typer.Option(help="Folder for runs.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a recipe field: a.b=c.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
