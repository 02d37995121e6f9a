"""The commands that train nothing: pages and tables, lists, a recipe's plan, the schema."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wiry.cli_options import Set

inspection = typer.Typer()


@inspection.command()
def report(
    roots: Annotated[list[Path], typer.Argument(help="Run or search directories.")],
    figures: Annotated[
        Path | None, typer.Option(help="Also write PDF and SVG figures here.")
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write a LaTeX table.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a CSV table.")] = None,
) -> None:
    """Write the page of a run or a search, and figures and tables over several runs."""
    from wiry.report import figures as figure_room
    from wiry.report import tables
    from wiry.report.page import write_report

    for root in roots:
        print(write_report(root))
    if figures:
        for path in figure_room.write_figures(roots, figures):
            print(path)
    if latex:
        tables.write_latex(roots, latex)
        print(latex)
    if csv:
        tables.write_csv(roots, csv)
        print(csv)


@inspection.command("pseudo-label")
def pseudo_label_(
    target: Annotated[Path, typer.Argument(help="A run directory or a `best` folder.")],
    images: Annotated[Path, typer.Argument(help="Images (.npz with x, .safetensors, .pickle).")],
    out: Annotated[Path, typer.Option(help="File to write (.safetensors).")],
    stage: Annotated[str | None, typer.Option(help="Stage of the run [default: the last].")] = None,
) -> None:
    """Label images with a trained network, for the data set `pseudo-labelled`."""
    from wiry.core.errors import UserError
    from wiry.data.pseudo_labelled import pseudo_label, read_images, save_pseudo_labelled
    from wiry.sweep.target import find_target
    from wiry.train.prepare import dataset_of

    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, got {str(out)!r}")
    found = find_target(target, stage)
    read = read_images(images, dataset_of(found.recipe).input_shape)
    save_pseudo_labelled(out, read, pseudo_label(found.model, read))
    print(f"{out}: {len(read)} images labelled by {found.stage.name}")


@inspection.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="One kind, such as sparsifier.")] = None,
    plugin: Annotated[list[str] | None, typer.Option(help="Import this module first.")] = None,
) -> None:
    """List what can be used in a recipe, with one line each."""
    from wiry.core.registry import kinds, load_plugins, registry
    from wiry.sparsify.plan import method_names

    load_plugins(plugin or [])
    for chosen in [kind.removesuffix("s")] if kind is not None else kinds():
        names = method_names() if chosen == "method" else registry(chosen).names()
        print(f"{chosen}s")
        for name in names:
            owner = chosen if name in registry(chosen).names() else "sparsifier"
            print(f"  {name:22} {registry(owner).summary(name)}")


@inspection.command()
def show(recipe: Annotated[Path, typer.Argument(help="Recipe (YAML).")], set_: Set = None) -> None:
    """Print what a recipe will do: its identity and its stages, levels written out."""
    from wiry.core.recipe import expand
    from wiry.core.recipe_file import load_recipe

    loaded = load_recipe(recipe, set_)
    print(
        f"{loaded.name}-{loaded.identity()}: {loaded.model['name']} on "
        f"{loaded.data['name']}, seed {loaded.seed}"
    )
    for stage in expand(loaded):
        print(
            f"  {stage.name}: {stage.epochs} epochs, {stage.objective['name']}, "
            f"{stage.sparsifier}, weights {stage.start.weights}, mask {stage.start.mask}"
        )


@inspection.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from wiry.core.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))
