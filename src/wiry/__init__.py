"""wiry: find, train, judge and ship neural networks that are sparse and adversarially robust.

The public names, each imported when it is first asked for, so that `import wiry` costs nothing and
rooms stay free to import one another. What trains a recipe is called `train_recipe`, because
`wiry.train` is the room itself.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wiry.attacks.apgd import APGD
    from wiry.attacks.fgsm import FGSM
    from wiry.attacks.pgd import PGD
    from wiry.attacks.square import Square
    from wiry.core.batch import Batch, Loss
    from wiry.core.errors import UserError
    from wiry.core.mask import Mask
    from wiry.core.recipe import Recipe
    from wiry.core.recipe_file import load_recipe, parse_recipe
    from wiry.core.registry import component, registry
    from wiry.core.run import Run
    from wiry.data.base import Dataset, build_dataset
    from wiry.evaluation.autoattack import AutoAttack
    from wiry.evaluation.cost import cost
    from wiry.evaluation.examination import evaluate
    from wiry.export.load import load
    from wiry.export.sparse_file import save
    from wiry.report.page import write_report
    from wiry.runtime.runtime import Runtime
    from wiry.sparsify.base import Sparsifier
    from wiry.train.stages import load_stage
    from wiry.train.stages import train as train_recipe

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "AutoAttack",
    "Batch",
    "Dataset",
    "Loss",
    "Mask",
    "Recipe",
    "Run",
    "Runtime",
    "Sparsifier",
    "Square",
    "UserError",
    "build_dataset",
    "component",
    "cost",
    "evaluate",
    "load",
    "load_recipe",
    "load_stage",
    "parse_recipe",
    "registry",
    "save",
    "train_recipe",
    "write_report",
]

_PLACES = {
    "APGD": "wiry.attacks.apgd:APGD",
    "FGSM": "wiry.attacks.fgsm:FGSM",
    "PGD": "wiry.attacks.pgd:PGD",
    "AutoAttack": "wiry.evaluation.autoattack:AutoAttack",
    "Batch": "wiry.core.batch:Batch",
    "Dataset": "wiry.data.base:Dataset",
    "Loss": "wiry.core.batch:Loss",
    "Mask": "wiry.core.mask:Mask",
    "Recipe": "wiry.core.recipe:Recipe",
    "Run": "wiry.core.run:Run",
    "Runtime": "wiry.runtime.runtime:Runtime",
    "Sparsifier": "wiry.sparsify.base:Sparsifier",
    "Square": "wiry.attacks.square:Square",
    "UserError": "wiry.core.errors:UserError",
    "build_dataset": "wiry.data.base:build_dataset",
    "component": "wiry.core.registry:component",
    "cost": "wiry.evaluation.cost:cost",
    "evaluate": "wiry.evaluation.examination:evaluate",
    "load": "wiry.export.load:load",
    "load_recipe": "wiry.core.recipe_file:load_recipe",
    "load_stage": "wiry.train.stages:load_stage",
    "parse_recipe": "wiry.core.recipe_file:parse_recipe",
    "registry": "wiry.core.registry:registry",
    "save": "wiry.export.sparse_file:save",
    "train_recipe": "wiry.train.stages:train",
    "write_report": "wiry.report.page:write_report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("wiry")
    elif name in _PLACES:
        module, _, attribute = _PLACES[name].partition(":")
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module 'wiry' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
