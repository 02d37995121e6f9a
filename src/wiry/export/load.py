"""From a bundle on disk back to a model that answers; the counterpart of `bundle`."""

from pathlib import Path

from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.tensors import load_mask, load_tensors
from wiry.export.manifest import MANIFEST, MASK, WEIGHTS, read_manifest
from wiry.models.base import build_model


def load(folder: Path | str) -> nn.Module:
    """Return a bundle's model on the CPU, in eval mode, with the masked weights at zero.

    It takes images in [0, 1] and returns logits. Checksums, names, shapes and types are checked;
    nothing is unpickled, and no plugin is imported: a model from a plugin needs it imported before.

    Raises:
        UserError: naming the file that is missing, cut short, damaged or does not fit the model.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        model = build_model(
            manifest["model"],
            input_shape=tuple(manifest["input_shape"]),
            num_classes=manifest["num_classes"],
            seed=0,
        )
    except UserError as error:
        plugins = manifest.get("plugins")
        advice = f" Import the plugins {plugins} before." if plugins else ""
        raise UserError(f"{folder / MANIFEST}: {error}{advice}") from error
    weights = load_tensors(folder / WEIGHTS)
    _check_fit(folder / WEIGHTS, weights, model.state_dict())
    model.load_state_dict(weights)
    mask = load_mask(folder / MASK)
    try:
        mask.apply_(model)
    except UserError as error:
        raise UserError(f"{folder / MASK}: {error}") from error
    return model.eval()


def _check_fit(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(f"{path} lacks {missing[0]!r}, which the model in {MANIFEST} has")
    if unknown := sorted(found.keys() - expected.keys()):
        raise UserError(f"{path} has {unknown[0]!r}, which the model in {MANIFEST} lacks")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise UserError(
                f"{path}: {name!r} is {_described(found[name])}, but the model in {MANIFEST} "
                f"has {_described(tensor)} there"
            )


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
