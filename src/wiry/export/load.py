"""From a bundle or a `.wiry` file back to a model that answers.

The counterpart of `bundle` and `sparse_file`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.tensors import load_mask, load_tensors
from wiry.export.manifest import MANIFEST, MASK, WEIGHTS, read_manifest
from wiry.export.sparse_file import state_of
from wiry.export.sparse_read import read_sparse
from wiry.models.base import build_model


def load(path: Path | str) -> nn.Module:
    """Return the model of a bundle (a folder) or a `.wiry` file, on the CPU, in eval mode.

    It takes images in [0, 1] and returns logits; masked weights are zero. Checksums, names, shapes
    and types are checked; nothing is unpickled, and no plugin is imported: a model from a plugin
    needs it imported before.

    Raises:
        UserError: naming the file that is missing, cut short, damaged, does not fit the model or
            holds the tensors of a network that wiry did not build.
    """
    path = Path(path)
    return _load_file(path) if path.is_file() or path.suffix == ".wiry" else _load_bundle(path)


def _load_bundle(folder: Path) -> nn.Module:
    manifest = read_manifest(folder)
    model = _built(folder / MANIFEST, manifest, manifest.get("plugins"))
    weights = load_tensors(folder / WEIGHTS)
    _check_fit(folder / WEIGHTS, weights, model.state_dict(), MANIFEST)
    model.load_state_dict(weights)
    mask = load_mask(folder / MASK)
    try:
        mask.apply_(model)
    except UserError as error:
        raise UserError(f"{folder / MASK}: {error}") from error
    return model.eval()


def _load_file(path: Path) -> nn.Module:
    content = read_sparse(path)
    facts = content.facts
    if facts["model"] is None:
        raise UserError(
            f"{path} holds the tensors of a network that wiry did not build, and no model spec. "
            "Build the network as it was made, then "
            f"model.load_state_dict(wiry.export.sparse_file.load_state({str(path)!r}))"
        )
    plugins = (facts["recipe"] or {}).get("plugins")
    state = state_of(content)
    with torch.device("meta"):  # sizes in a spec are believed once the tensors have them too
        expected = _built(path, facts, plugins).state_dict()
    _check_fit(path, state, expected, "its manifest")
    model = _built(path, facts, plugins)
    model.load_state_dict(state)
    return model.eval()


def _built(path: Path, facts: dict[str, Any], plugins: Any) -> nn.Module:
    """Build the model that a file at `path` describes."""
    try:
        return build_model(
            facts["model"],
            input_shape=tuple(facts["input_shape"]),
            num_classes=facts["num_classes"],
            seed=0,
        )
    except UserError as error:
        advice = f" Import the plugins {plugins} before." if plugins else ""
        raise UserError(f"{path}: {error}{advice}") from error
    except (RuntimeError, OverflowError, MemoryError, RecursionError, TypeError) as error:
        fault = str(error).partition("\n")[0]  # torch's first line, without its frames
        raise UserError(f"{path}: the model that it describes cannot be built: {fault}") from error


def _check_fit(
    path: Path, found: dict[str, Tensor], expected: dict[str, Tensor], where: str
) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(f"{path} lacks {missing[0]!r}, which the model in {where} has")
    if unknown := sorted(found.keys() - expected.keys()):
        raise UserError(f"{path} has {unknown[0]!r}, which the model in {where} lacks")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise UserError(
                f"{path}: {name!r} is {_described(found[name])}, but the model in {where} "
                f"has {_described(tensor)} there"
            )


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
