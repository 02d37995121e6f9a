"""`wiry evaluate`: attack a network that is there already, a stage of a run or a bundle."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from wiry.attacks.presets import autoattack, screen, strongest
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe, Stage, expand
from wiry.core.recipe_file import load_recipe
from wiry.core.registry import registry
from wiry.core.run import Run
from wiry.core.tensors import load_mask
from wiry.export.load import load
from wiry.sweep.threat import threat_of
from wiry.sweep.trial import Measurement, measure
from wiry.train.stages import load_stage

PRESETS = {"strongest": strongest, "screen": screen}


@dataclasses.dataclass(frozen=True)
class Target:
    """A trained network with the stage that trained it and where its evaluations go."""

    model: nn.Module
    mask: Mask
    recipe: Recipe
    stage: Stage
    folder: Path


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
    return Target(model, mask, run.recipe, chosen, run.stage_dir(chosen) / "eval")


def evaluate_target(
    target: Target,
    *,
    attack: str,
    version: str | None = None,
    eps: float | None,
    norm: str | None,
    split: str,
    num_samples: int | None,
    device: str,
) -> dict[str, Any]:
    """Attack a network and return the evaluation.

    Args:
        attack: `strongest`, `autoattack`, `screen` or the name of a registered attack.
        version: of `autoattack`; None: standard.
        eps: budget; None: that of the training.
        norm: norm; None: that of the training.

    Raises:
        UserError: if there is no eps to be had, or the attack does not take it.
    """
    if split not in ("test", "validation"):
        raise UserError(f"--split must be test or validation, got {split!r}")
    threat = threat_of(target.stage.objective)
    eps = threat.eps if eps is None else eps
    if eps is None:
        raise UserError("the network was not trained against an attack; give --eps")
    chosen = norm or threat.norm
    registry("attack").normalize({"name": "pgd", "eps": eps, "norm": chosen})  # refuse bad ones
    if version is not None and attack != "autoattack":
        raise UserError(f"--version is of --attack autoattack, not of {attack!r}")
    if attack == "autoattack":
        try:
            found = autoattack(eps, chosen, version or "standard")
        except ValueError as error:
            raise UserError(f"autoattack: {error}") from error
        specs = [registry("attack").normalize(a) for a in found]
    elif attack in PRESETS:
        specs = [registry("attack").normalize(a) for a in PRESETS[attack](eps, chosen)]
    else:
        specs = [registry("attack").normalize({"name": attack, "eps": eps, "norm": chosen})]
    cascade = attack == "autoattack"
    wanted = Measurement(target.stage.name, split, specs, num_samples, cascade)
    return measure(target.model, target.mask, target.recipe, wanted, target.folder, device=device)
