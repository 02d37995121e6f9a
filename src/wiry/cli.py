"""The command line: every command checks its arguments, calls one room and prints. No logic here.

Exit codes: 0 done, 1 our own mistake (a traceback), 2 the user's (one line), 3 nothing meets the
constraint, 130 interrupted.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_compare import comparison
from wiry.cli_evaluate import evaluation
from wiry.cli_export import exporting
from wiry.cli_inspect import inspection
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

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: brackets are brackets
    help="Find, train, judge and ship neural networks that are sparse and robust.",
)

app.add_typer(evaluation)
app.add_typer(inspection)
app.add_typer(comparison)
app.add_typer(exporting)


@app.command()
def search(
    recipe: DenseRecipe = None,
    data: Data = None,
    model: Model = None,
    eps: Eps = None,
    norm: Norm = None,
    methods: Annotated[
        str, typer.Option(help="Methods with commas; see `wiry list method`.")
    ] = "one-shot,lottery",
    max_drop: Annotated[
        float | None, typer.Option(help="Most accuracy to lose, clean and robust [default: 0.02].")
    ] = None,
    min_clean: Annotated[
        float | None, typer.Option(help="Least clean accuracy, instead of --max-drop.")
    ] = None,
    min_robust: Annotated[
        float | None, typer.Option(help="Least robust accuracy, instead of --max-drop.")
    ] = None,
    min_density: Annotated[
        float, typer.Option(help="Do not go below this share of weights.")
    ] = 0.005,
    seeds: Annotated[str, typer.Option(help="Seeds with commas.")] = "0,1,2",
    sparse_epochs: Annotated[
        int | None, typer.Option(help="Epochs of sparse stages [default: as dense].")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time to spend, such as 10m.")] = None,
    workers: Workers = CORES,
    out: Out = Path("runs"),
    set_: Set = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find the sparsest network that keeps the accuracy and the robustness you ask for."""
    from wiry import console
    from wiry.sweep.command import SearchOptions, run_search
    from wiry.sweep.ladder import Ladder

    if max_drop is None and min_clean is None and min_robust is None:
        max_drop = 0.02
    options = SearchOptions(
        recipe=recipe,
        data=data,
        model=model,
        eps=console.parse_number(eps, "--eps"),
        norm=norm,
        methods=tuple(methods.split(",")),
        max_drop=max_drop,
        min_clean=min_clean,
        min_robust=min_robust,
        ladder=Ladder(min_density=min_density),
        seeds=console.parse_numbers(seeds, "--seeds"),
        sparse_epochs=sparse_epochs,
        budget_seconds=console.parse_duration(budget) if budget else None,
        workers=workers,
        out=out,
        overrides=set_ or [],
        device=device,
    )
    terminal = console.terminal(stderr=as_json)
    root, outcome = run_search(options, terminal)
    from wiry.report.page import write_report

    page = write_report(root)
    if as_json:
        from wiry.sweep.outcome import shell_json

        print(json.dumps(shell_json(outcome, page), allow_nan=False))
    else:
        terminal.print(console.search_table(outcome))
        for line in console.verdict_lines(outcome):
            terminal.print(line)
        if outcome["best"]:
            terminal.print(f"Network: {root / 'best'}", soft_wrap=True)
        terminal.print(f"Report:  {page}", soft_wrap=True)
    raise typer.Exit(0 if outcome["winner"] else 3)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML).")],
    seeds: Annotated[
        str | None, typer.Option(help="Train once for each of these seeds [default: the recipe's].")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=1024, help="Processes for several seeds.")
    ] = CORES,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="Threads of one run; results can differ by them.")
    ] = 1,
    out: Out = Path("runs"),
    set_: Set = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train every stage of a recipe, evaluate, write the page. Run again to continue."""
    from wiry import console
    from wiry.report.page import write_report
    from wiry.sweep.command import TrainOptions, run_recipe

    terminal = console.terminal(stderr=as_json)
    chosen = console.parse_numbers(seeds, "--seeds") if seeds is not None else ()
    options = TrainOptions(recipe, set_ or [], out, device, threads, chosen, workers)
    runs = [(root, results, write_report(root)) for root, results in run_recipe(options, terminal)]
    if as_json:
        found = [{"run": str(r), "report": str(p), "stages": dict(s)} for r, s, p in runs]
        print(json.dumps(found if seeds is not None else found[0], allow_nan=False))
        return
    for root, results, page in runs:
        terminal.print(console.evaluation_table(results))
        terminal.print(f"Run:    {root}", soft_wrap=True)
        terminal.print(f"Report: {page}", soft_wrap=True)


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; a user's mistake is one line on standard error."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(args=given or ["--help"], standalone_mode=False) or 0
        if code == 130:  # what the parser makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("wiry: interrupted; the same command continues where it was", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if (text := _mistake(error)) is None:
            raise
        print(f"wiry: error: {' '.join(text[:3000].split())}", file=sys.stderr)
        return 2


def _mistake(error: Exception) -> str | None:
    """Return what the user did wrong, or None if the mistake is ours."""
    from wiry.core.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, typer.BadParameter.__mro__[2]):  # every error of the argument parser
        return error.format_message()  # type: ignore[attr-defined] # of the parser's base class
    return None


def main() -> None:
    """Entry point of the `wiry` command."""
    sys.exit(run())


if __name__ == "__main__":
    main()
