"""A trained sparse model as one folder that can be given away: weights, mask, recipe and card.

The folder is written beside its place, read back, compared, and moved there whole. What the card
says is `card`; how a bundle is read is `load`.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.files import write_atomic, write_json
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe
from wiry.core.recipe_file import dump_recipe
from wiry.core.tensors import save_mask, save_tensors
from wiry.export.card import card_text, make_card
from wiry.export.load import load
from wiry.export.manifest import MANIFEST, MASK, WEIGHTS, write_manifest


def write_bundle(
    folder: Path,
    *,
    model: nn.Module,
    mask: Mask,
    recipe: Recipe,
    model_spec: Mapping[str, Any],
    dataset_name: str,
    input_shape: Sequence[int],
    class_names: Sequence[str],
    statistics: tuple[Float[Tensor, " c"], Float[Tensor, " c"]] | None,
    evaluation: dict[str, Any],
    search: dict[str, Any] | None,
) -> None:
    """Write a bundle: all of it appears at once, in the place of an older one if there is one.

    Masked-out weights are written as zero; the model is not changed. The bundle is loaded again
    before it is put in its place, so a bundle that exists can be loaded.

    Args:
        folder: the bundle's place; not there yet, empty, or an older bundle.
        model_spec: the model component of the recipe, from which the model is built on loading.
        statistics: mean and standard deviation of the training pixels, for the card; those the
            model uses are among its weights.
        evaluation: record of the model on the test split, see `run_evaluation`.
        search: what the model was searched for, for the card.

    Raises:
        UserError: if something else is in the place, or mask or spec do not fit the model.
    """
    folder = Path(folder).resolve()
    _check_replaceable(folder)
    parameters = dict(model.named_parameters())
    mask.check(parameters)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        building.chmod(0o755)
        tensors = _masked_state(model, mask)
        save_tensors(building / WEIGHTS, tensors, {"format": "pt"})
        save_mask(building / MASK, mask)
        write_atomic(building / "recipe.yaml", dump_recipe(recipe))
        card = make_card(
            recipe=recipe,
            model_spec=model_spec,
            dataset_name=dataset_name,
            input_shape=input_shape,
            class_names=class_names,
            statistics=statistics,
            evaluation=evaluation,
            search=search,
        )
        write_json(building / "card.json", card)
        write_atomic(building / "card.md", card_text(card))
        write_manifest(building, _content(card, recipe))
        _check_loads(building, tensors)
        _put_in_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _content(card: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    keys = ("name", "dataset", "model", "input_shape", "class_names", "statistics")
    return {
        **{key: card[key] for key in keys},
        "num_classes": len(card["class_names"]),
        "plugins": list(recipe.plugins),
    }


def _masked_state(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for name, kept in mask.items():
        state[name] = state[name].masked_fill(~kept.to(state[name].device), 0)
    return state


def _check_replaceable(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise UserError(
                f"{folder} holds something that is not a bundle; choose another folder or empty it"
            )
    elif folder.exists():
        raise UserError(f"{folder} is a file; a bundle is a folder, choose another name")


def _check_loads(building: Path, expected: dict[str, Tensor]) -> None:
    loaded = load(building).state_dict()
    for name, tensor in expected.items():
        same = (loaded[name] == tensor.cpu()) | (loaded[name] != loaded[name])  # NaN stays NaN
        assert bool(same.all()), f"{name!r} does not come back from the bundle as it was written"


def _put_in_place(building: Path, folder: Path) -> None:
    if not folder.exists():
        building.rename(folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    folder.rename(old)
    try:
        building.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
