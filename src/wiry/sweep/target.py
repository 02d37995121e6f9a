"""A network that wiry trained, found again: a stage of a run, or a bundle."""

import dataclasses
from pathlib import Path

from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe, Stage, expand
from wiry.core.recipe_file import load_recipe
from wiry.core.run import Run
from wiry.core.tensors import load_mask
from wiry.export.load import load
from wiry.train.stages import load_stage


@dataclasses.dataclass(frozen=True)
class Target:
    """A trained network with the stage that trained it and where its evaluations go.

    `root` is the run that it is a stage of; None for a bundle.
    """

    model: nn.Module
    mask: Mask
    recipe: Recipe
    stage: Stage
    folder: Path
    root: Path | None = None


def find_target(path: Path, stage: str | None) -> Target:
    """Open a run's stage (default: the last) or a bundle.

    Raises:
        UserError: if there is no such stage, it is not finished, or a file is damaged.
    """
    if (path / "bundle.json").exists():
        if stage is not None:
            raise UserError(f"{str(path)!r} is a bundle, it has no stages; leave --stage out")
        model = load(path)  # checks every file before anything in the bundle is believed
        recipe = load_recipe(path / "recipe.yaml", plugins=False)
        mask = load_mask(path / "mask.safetensors")
        return Target(model, mask, recipe, expand(recipe)[-1], path / "eval")
    run = Run.open(path)
    names = [s.name for s in run.stages]
    if stage is not None and stage not in names:
        raise UserError(f"run {path.name!r} has no stage {stage!r}; it has {', '.join(names)}")
    chosen = next(s for s in run.stages if s.name == (stage or names[-1]))
    if not run.is_done(chosen):
        raise UserError(f"stage {chosen.name!r} of {str(path)!r} is not finished; `wiry train` it")
    model, mask = load_stage(run, chosen)
    return Target(model, mask, run.recipe, chosen, run.stage_dir(chosen) / "eval", path)
