"""What a comparison asks for, as checked data: methods x sparsities x seeds on one threat model.

The dense training and the attacks come from the same place as a search's (`settings`); a data set
may have a shorter preset of its own in `presets/compare`.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.core.recipe import Recipe, expand
from wiry.sparsify.base import check_share
from wiry.sparsify.plan import method_names, sparsity_of
from wiry.sweep.ladder import Ladder
from wiry.sweep.settings import PRESETS, search_settings

ALL = "all"
DENSE = "dense"
"""What the rows of the dense networks are called."""


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """A comparison.

    Attributes:
        recipe: its first stage is the dense training, which sparse stages take after. Its seed is
            replaced by `seeds`.
        methods: in the order of the rows.
        sparse_epochs: epochs that a method gets after the dense training; None: as many.
        judge: attack specs; the worst case over them on the test split is the robust accuracy.
    """

    recipe: Recipe
    eps: float
    norm: str
    judge: tuple[dict[str, Any], ...]
    methods: tuple[str, ...]
    sparsities: tuple[float, ...] = (0.9, 0.95, 0.99)
    seeds: tuple[int, ...] = (0, 1, 2)
    sparse_epochs: int | None = None

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            try:
                check_share(sparsity, "--sparsity")
            except ValueError as error:
                raise UserError(str(error)) from error
            if not 0 < sparsity <= 1 - 1e-6:
                raise UserError(f"--sparsity must be in (0, 1), got {sparsity:g}")
        if not self.sparsities or len(set(self.sparsities)) != len(self.sparsities):
            raise UserError(
                f"--sparsity needs one or more different values, got {list(self.sparsities)}"
            )
        if len(self.seeds) < 2:
            raise UserError(
                "a comparison needs two or more seeds, or chance decides it; got "
                f"--seeds {','.join(map(str, self.seeds))}, write --seeds 0,1,2"
            )

    @property
    def epochs(self) -> int:
        """Epochs that a method gets after the dense training."""
        return self.dense_epochs if self.sparse_epochs is None else self.sparse_epochs

    @property
    def dense_epochs(self) -> int:
        """Epochs of the dense training."""
        return expand(self.recipe)[0].epochs

    def identity(self) -> str:
        """Return eight hex digits: the hash of everything but the recipe's seed."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["recipe"] = self.recipe.model_dump(exclude_defaults=True, exclude={"seed"})
        data["sparse_epochs"] = self.epochs
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def root(self, out: Path) -> Path:
        """Return the directory of the comparison."""
        return out / f"compare-{self.recipe.name}-{self.identity()}"


def compare_settings(
    recipe_path: Path | None,
    *,
    data: str | None,
    model: str | None,
    eps: float | None,
    norm: str | None,
    overrides: list[str],
    methods: tuple[str, ...],
    sparsities: tuple[float, ...],
    seeds: tuple[int, ...],
    epochs: int | None,
    sparse_epochs: int | None,
) -> CompareSettings:
    """Make settings of a recipe, or of a data set's preset, with the command line's changes.

    Args:
        methods: names, or `all` alone for every registered one.
        epochs: of the dense training; None: as in the recipe.

    Raises:
        UserError: for anything that cannot be compared.
    """
    preset = PRESETS / "compare" / f"{data or 'digits'}.yaml"
    if recipe_path is None and preset.exists():
        recipe_path, data = preset, None
    if epochs is not None:
        overrides = [*overrides, f"stages.0.epochs={epochs}"]
    found = search_settings(
        recipe_path,
        data=data,
        model=model,
        eps=eps,
        norm=norm,
        overrides=overrides,
        methods=tuple(method_names()) if methods == (ALL,) else methods,
        seeds=seeds,
        sparse_epochs=sparse_epochs,
    )
    return CompareSettings(
        recipe=found.recipe,
        eps=found.eps,
        norm=found.norm,
        judge=found.judge,
        methods=found.methods,
        sparsities=tuple(sorted(sparsities)),
        seeds=seeds,
        sparse_epochs=sparse_epochs,
    )


def density_path(sparsity: float) -> list[float]:
    """Return the densities that an iterative method goes through: halving down to the target."""
    target = sparsity_of(sparsity)
    return Ladder(min_density=min(target, 0.5)).path_to(target)
