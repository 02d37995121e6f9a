"""The command that writes a network for somewhere else, and checks what it wrote."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_options import Json

exporting = typer.Typer()

_HELP = """Write a network as a file for somewhere else, ask the file, and write its card.

The network is TARGET: a run directory, a bundle (`best`), a .wiry or .pt2 file; or what your own
function returns: --model package.module:function, with --weights FILE.

The file is opened again and asked about test images, clean and attacked. One that answers otherwise
is not kept; one with rounded weights (--dtype) is another network and is attacked itself.

\b
wiry export runs/mine-bab8bb83/best --to wiry
wiry export net.wiry --to onnx --dtype int8 --output net-int8.onnx
wiry export --model nets:build --weights net.safetensors --data cifar10 --eps 8/255 --to openvino
"""


@exporting.command(help=_HELP)
def export(
    target: Annotated[
        Path | None, typer.Argument(help="A run, a bundle, a .wiry or .pt2 file.")
    ] = None,
    to: Annotated[
        str, typer.Option(help="wiry, onnx, openvino, torch-export or safetensors.")
    ] = "wiry",
    output: Annotated[
        Path | None, typer.Option(help="File to write [default: the network's name, here].")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Round weights: float16, bfloat16 or int8, by format.")
    ] = None,
    shrink: Annotated[bool, typer.Option("--shrink", help="Take dead channels out first.")] = False,
    stage: Annotated[str | None, typer.Option(help="Stage of a run [default: the last].")] = None,
    model: Annotated[
        str | None, typer.Option(help="package.module:function that returns a torch.nn.Module.")
    ] = None,
    model_args: Annotated[
        list[str] | None, typer.Option(help="key=value for that function; repeatable.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its weights: .safetensors, or a plain state dict (.pt).")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Normalise first: mean of each channel.")] = None,
    std: Annotated[
        str | None, typer.Option(help="Normalise first: standard deviation of each channel.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set (`wiry list dataset`) or .npz with x and y; not for runs."),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Test images to ask about.")] = 200,
    attack: Annotated[
        str, typer.Option(help="screen, screened, autoattack or one of `wiry list attack`.")
    ] = "screen",
    eps: Annotated[
        str | None, typer.Option(help="Attack budget, 8/255 [default: the training's].")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="linf, l2 or l1 [default: the training's, or linf].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the attacks.")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Ask the file about images.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Compute threads.")] = 1,
    as_json: Json = False,
) -> None:
    from wiry import console, console_evaluate, console_export, console_parse
    from wiry.export.write import Order, card_path
    from wiry.sweep.command import set_device
    from wiry.sweep.evaluate_network import Source
    from wiry.sweep.export_command import ExportOptions, default_output, run_export

    source = Source(
        target=target,
        stage=stage,
        place=model,
        arguments=console_parse.parse_arguments(model_args, "--model-args"),
        weights=weights,
        mean=console_parse.parse_values(mean, "--mean"),
        std=console_parse.parse_values(std, "--std"),
    )
    output = output or default_output(source, to, dtype)
    options = ExportOptions(
        source=source,
        order=Order(to, output, dtype, shrink, overwrite),
        data=console_parse.parse_data(data),
        num_samples=num_samples,
        attack=attack,
        eps=console.parse_number(eps, "--eps"),
        norm=norm,
        seed=seed,
        verify=verify,
    )
    set_device("cpu", threads)
    with contextlib.redirect_stdout(sys.stderr):  # what exporters and foreign code may print
        with console_evaluate.Watch(quiet=as_json) as watch:
            card = run_export(options, watch)
    files = {"file": output, "card": card_path(output, ".md")}
    if as_json:
        paths = {name: str(path) for name, path in files.items()}
        print(json.dumps({**paths, **card}, allow_nan=False))
    else:
        console_export.show(card, files)
