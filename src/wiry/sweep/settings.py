"""What a search asks for, as checked data.

And the presets a search starts from when no recipe is given.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from wiry.attacks.presets import autoattack
from wiry.core.errors import UserError, closest
from wiry.core.recipe import Recipe
from wiry.core.recipe_file import load_recipe, parse_recipe
from wiry.core.registry import registry
from wiry.sparsify.plan import method_names
from wiry.sweep.ladder import Ladder
from wiry.sweep.threat import against, threat_of

PRESETS = Path(__file__).parent / "presets"
DEFAULT_METHODS = ("one-shot", "lottery")


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """A search: the dense training, the methods, the constraint and how far to go.

    Attributes:
        recipe: its first stage is the dense robust training; sparse stages take its objective,
            optimizer and batch size. Its seed is replaced by `seeds`.
        max_drop: largest loss against the dense network, in accuracy (share), clean and robust.
        min_clean: least clean accuracy; with `min_robust` it takes the place of `max_drop`.
        sparse_epochs: length of every sparse stage; None: as long as the dense one.
        judge: specs of AutoAttack's attacks. Candidates are screened with them on the validation
            split, finalists meet all of them on the test split.
    """

    recipe: Recipe
    eps: float
    norm: str
    methods: tuple[str, ...] = DEFAULT_METHODS
    max_drop: float | None = 0.02
    min_clean: float | None = None
    min_robust: float | None = None
    ladder: Ladder = Ladder()
    seeds: tuple[int, ...] = (0, 1, 2)
    sparse_epochs: int | None = None
    judge: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_drop", "min_clean", "min_robust"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                hint = f" Did you mean {value / 100:g}?" if 1 < value <= 100 else ""
                raise UserError(
                    f"--{name.replace('_', '-')} is an accuracy in [0, 1], got {value:g}.{hint}"
                )
        if (self.max_drop is None) == (self.min_clean is None and self.min_robust is None):
            raise UserError("give either --max-drop, or --min-clean and/or --min-robust")
        if not 1e-6 <= self.ladder.min_density < 1:
            raise UserError(f"--min-density must be in [1e-6, 1), got {self.ladder.min_density:g}")
        if self.sparse_epochs is not None and not 0 <= self.sparse_epochs <= 1_000_000:
            raise UserError(f"--sparse-epochs must be in [0, 1000000], got {self.sparse_epochs}")
        for method in self.methods:
            if method not in method_names():
                raise UserError(
                    f"no method {method!r}{closest(method, method_names())}. "
                    "See `wiry list methods`."
                )
        for name, values in (("methods", self.methods), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise UserError(f"--{name} needs one or more different values, got {list(values)}")

    def identity(self) -> str:
        """Return eight hex digits: the hash of the non-default fields but the recipe's seed."""
        data: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        data["recipe"] = self.recipe.model_dump(exclude_defaults=True, exclude={"seed"})
        data["ladder"] = dataclasses.asdict(self.ladder) if self.ladder != Ladder() else {}
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def thresholds(self, clean: float, robust: float) -> tuple[float, float]:
        """Return the least clean and robust accuracy, given those of the dense network."""
        if self.max_drop is not None:
            return clean - self.max_drop, robust - self.max_drop
        return self.min_clean or 0.0, self.min_robust or 0.0


def search_settings(
    recipe_path: Path | None,
    *,
    data: str | None,
    model: str | None,
    eps: float | None,
    norm: str | None,
    overrides: list[str],
    **fields: Any,
) -> SearchSettings:
    """Make settings of a recipe, or of the preset of a data set, with the command line's changes.

    Raises:
        UserError: if there is no preset, or eps is neither in the recipe nor given.
    """
    recipe = (
        load_recipe(recipe_path, overrides) if recipe_path else _preset(data or "digits", overrides)
    )
    if recipe_path and data:
        recipe = _changed(recipe, {"data": {"name": data}})
    if model:
        recipe = _changed(recipe, {"model": {"name": model}})
    trained = recipe.stages[0].objective
    if threat_of(trained).eps is not None:
        recipe = _with_objective(recipe, against(trained, eps, norm))
        threat = threat_of(recipe.stages[0].objective)
        eps, norm = threat.eps, threat.norm
    if eps is None:
        raise UserError("the recipe's dense stage has no attack to take eps from; give --eps")
    norm = norm or "linf"
    registry("attack").normalize({"name": "pgd", "eps": eps, "norm": norm})  # refuse bad ones
    judge = tuple(registry("attack").normalize(a) for a in autoattack(eps, norm))
    return SearchSettings(recipe=recipe, eps=eps, norm=norm, judge=judge, **fields)


def _preset(data: str, overrides: list[str]) -> Recipe:
    registry("dataset").get(data)
    path = PRESETS / f"{data}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in PRESETS.glob("*.yaml"))
        raise UserError(
            f"there is no preset for data {data!r} (there are {', '.join(known)}); give a "
            "RECIPE whose first stage is the dense training"
        )
    return load_recipe(path, overrides)


def _changed(recipe: Recipe, change: dict[str, Any]) -> Recipe:
    return parse_recipe(recipe.model_dump(exclude_defaults=True) | change)


def _with_objective(recipe: Recipe, objective: dict[str, Any]) -> Recipe:
    data = recipe.model_dump(exclude_defaults=True)
    data["stages"][0]["objective"] = objective
    return parse_recipe(data)
