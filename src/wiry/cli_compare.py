"""The command that sets methods side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_options import (
    CORES,
    Data,
    DenseRecipe,
    Device,
    Eps,
    Json,
    Model,
    Norm,
    Out,
    Set,
    Workers,
)

comparison = typer.Typer()


@comparison.command()
def compare(
    recipe: DenseRecipe = None,
    data: Data = None,
    model: Model = None,
    eps: Eps = None,
    norm: Norm = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods with commas; all: every one of `wiry list method`, controls included."
        ),
    ] = "all",
    sparsity: Annotated[
        str, typer.Option(help="Shares of weights removed, with commas.")
    ] = "0.9,0.95,0.99",
    seeds: Annotated[str, typer.Option(help="Seeds with commas, two or more.")] = "0,1,2",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the dense training [default: the recipe's].")
    ] = None,
    sparse_epochs: Annotated[
        int | None, typer.Option(help="Epochs a method gets after it [default: as dense].")
    ] = None,
    workers: Workers = CORES,
    out: Out = Path("runs"),
    set_: Set = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train methods side by side at the same sparsities and say which wins where, how surely."""
    from rich.console import Console

    from wiry import console, console_compare
    from wiry.sweep.compare_command import CompareOptions, run_compare
    from wiry.sweep.compare_settings import compare_settings

    settings = compare_settings(
        recipe,
        data=data,
        model=model,
        eps=console.parse_number(eps, "--eps"),
        norm=norm,
        overrides=set_ or [],
        methods=tuple(methods.split(",")),
        sparsities=console_compare.parse_shares(sparsity, "--sparsity"),
        seeds=console.parse_numbers(seeds, "--seeds"),
        epochs=epochs,
        sparse_epochs=sparse_epochs,
    )
    terminal = Console(stderr=as_json, highlight=False)
    root, outcome = run_compare(settings, CompareOptions(workers, out, device), terminal)
    from wiry.report.page import write_report

    page = write_report(root)
    if as_json:
        print(json.dumps(outcome | {"report": str(page)}, allow_nan=False))
    else:
        for part in console_compare.tables(outcome):
            terminal.print(part)
        for line in console_compare.closing_lines(outcome):
            terminal.print(line)
        terminal.print(f"Report: {page}", soft_wrap=True)
    raise typer.Exit(0 if outcome["finished"] else 1)
