"""The command that judges a network that is there already, whoever trained it."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_options import Device, Json

evaluation = typer.Typer()

_HELP = """Attack a network and report clean and robust accuracy with intervals.

The network is TARGET: a run directory, a bundle (`best`), a .wiry file, a program (.pt2, from
torch.export.save) or an .onnx file (extra wiry[onnx], black-box attacks only). Or it is what your
own function returns: --model package.module:function, with --weights FILE. It must take images in
[0, 1] and return logits; --mean and --std put a normalisation in front.

Opening a .pt2 or naming a --model runs the code in it: use only what you trust.

Run it again to continue where it was stopped; what is finished is read back.

\b
wiry evaluate runs/mine-bab8bb83 --attack autoattack
wiry evaluate net.pt2 --data cifar10 --eps 8/255
wiry evaluate --model nets:build --weights net.safetensors --data images.npz --eps 8/255
"""


@evaluation.command(help=_HELP)
def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="A run, a bundle, a .wiry, .pt2 or .onnx file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="package.module:function that returns a torch.nn.Module.")
    ] = None,
    model_args: Annotated[
        list[str] | None, typer.Option(help="key=value for that function; repeatable.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its weights: .safetensors, or a plain state dict (.pt).")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Normalise first: mean of each channel, 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Normalise first: standard deviation of each channel.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set (`wiry list dataset`) or .npz with x and y; not for runs."),
    ] = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    num_samples: Annotated[int | None, typer.Option(min=1, help="First n images only.")] = None,
    stage: Annotated[str | None, typer.Option(help="Stage of a run [default: the last].")] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="autoattack, screened, screen, or one of `wiry list attack` "
            "[default: autoattack; square for .onnx]."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of autoattack: standard, plus or rand.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Attack budget, 8/255 [default: the training's].")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="linf, l2 or l1 [default: the training's, or linf].")
    ] = None,
    skip_certified: Annotated[
        bool, typer.Option("--skip-certified", help="Skip images that bounds prove robust (linf).")
    ] = False,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Measure more: NAME[,NAME] of `wiry list measure`, NAME:key=value."),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve/--no-curve",
            help="Security curve and nearest images, with autoattack and screened.",
        ),
    ] = True,
    against: Annotated[
        Path | None, typer.Option(help="Second network: which attacks carry over, who flips.")
    ] = None,
    claim: Annotated[
        float | None, typer.Option(help="Difference of accuracies to be shown, such as 0.02.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="robustbench or adversarial-pruning-benchmark: its card too.")
    ] = None,
    card: Annotated[
        list[str] | None, typer.Option(help="key=value for the card; repeatable.")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Images at once; auto: what fits.")] = "auto",
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the attacks [default: the run's].")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Compute threads.")] = 1,
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for networks from outside [default: runs].")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write a page about it.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no remarks.")] = False,
    as_json: Json = False,
) -> None:
    from wiry import console, console_evaluate, console_parse
    from wiry.sweep.command import set_device
    from wiry.sweep.evaluate_command import run_evaluate
    from wiry.sweep.evaluate_network import Source
    from wiry.sweep.evaluate_task import EvaluateOptions

    options = EvaluateOptions(
        source=Source(
            target=target,
            stage=stage,
            place=model,
            arguments=console_parse.parse_arguments(model_args, "--model-args"),
            weights=weights,
            mean=console_parse.parse_values(mean, "--mean"),
            std=console_parse.parse_values(std, "--std"),
        ),
        data=console_parse.parse_data(data),
        split=split,
        num_samples=num_samples,
        attack=attack,
        version=version,
        eps=console.parse_number(eps, "--eps"),
        norm=norm,
        measures=console_parse.parse_components(measure, "--measure"),
        curve=curve,
        against=against,
        claim=claim,
        skip_certified=skip_certified,
        protocol=protocol,
        card=console_parse.parse_pairs(card, "--card"),
        batch_size=console_parse.parse_batch_size(batch_size),
        seed=seed,
        device=device,
        out=out,
    )
    set_device(device, threads)
    with contextlib.redirect_stdout(sys.stderr):  # what somebody else's code may print
        with console_evaluate.Watch(quiet=quiet) as watch:
            outcome = run_evaluate(options, watch)
    files = {"record": outcome.path, "card": outcome.card_path}
    if page and outcome.root is not None:
        from wiry.report.page import write_report

        files["page"] = write_report(outcome.root)
    if not quiet:
        for line in console_evaluate.remark_lines(outcome):
            print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(console_evaluate.shell_json(outcome, files), allow_nan=False))
    else:
        console_evaluate.show(outcome, files)
