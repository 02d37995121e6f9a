"""The command that judges a network that is there already."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_options import Device, Json

evaluation = typer.Typer()


@evaluation.command()
def evaluate(
    target: Annotated[Path, typer.Argument(help="A run directory or a `best` folder.")],
    stage: Annotated[str | None, typer.Option(help="Stage of the run [default: the last].")] = None,
    attack: Annotated[
        str, typer.Option(help="strongest, autoattack, screen, or a registered attack.")
    ] = "strongest",
    version: Annotated[
        str | None, typer.Option(help="Of autoattack: standard, plus or rand.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Attack budget [default: the training's].")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="linf, l2 or l1 [default: the training's].")
    ] = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    num_samples: Annotated[int | None, typer.Option(min=1, help="First n images only.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Compute threads.")] = 1,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Attack a trained network and report clean and robust accuracy with intervals."""
    from wiry import console
    from wiry.sweep.command import set_device
    from wiry.sweep.target import evaluate_target, find_target

    set_device(device, threads)
    found = find_target(target, stage)
    result = evaluate_target(
        found,
        attack=attack,
        version=version,
        eps=console.parse_number(eps, "--eps"),
        norm=norm,
        split=split,
        num_samples=num_samples,
        device=device,
    )
    if as_json:
        print(json.dumps(result, allow_nan=False))
    else:
        console.terminal().print(console.evaluation_table([(found.stage.name, result)]))
