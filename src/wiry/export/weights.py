"""Weights from a file into a network that wiry did not build: every name and shape must fit.

Files are safetensors, or PyTorch checkpoints that can be read without running code. Nothing else is
opened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.tensors import load_tensors

_COUNTER = "num_batches_tracked"  # of a batch norm; no answer depends on it
_SAVE = "safetensors.torch.save_file(model.state_dict(), 'net.safetensors')"


def load_weights_(model: nn.Module, path: Path) -> list[str]:
    """Put the weights of a file into a network, all of them and no others.

    A prefix that all names of the file share (`module.`, `model.`) is taken off if that makes them
    fit.

    Returns:
        What was done beyond plain loading, a sentence each.

    Raises:
        UserError: naming what is missing, unknown or of another shape.
    """
    remarks: list[str] = []
    found = _read(path, remarks)
    wanted = model.state_dict()
    found = _without_prefix(found, wanted, remarks)
    counters = {n for n in wanted.keys() - found.keys() if n.rpartition(".")[2] == _COUNTER}
    _check_names(path, found, wanted.keys() - counters, wanted)
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, the network has "
                f"{tuple(wanted[name].shape)} there; do the --model-args fit the weights?"
            )
    kinds = {
        str(t.dtype).removeprefix("torch.") for n, t in found.items() if _narrower(t, wanted[n])
    }
    if kinds:
        remarks.append(f"{' and '.join(sorted(kinds))} weights are computed with in float32")
    model.load_state_dict({**{name: wanted[name] for name in counters}, **found})
    return remarks


def _narrower(tensor: Tensor, wanted: Tensor) -> bool:
    return tensor.dtype != wanted.dtype and tensor.is_floating_point()


def _read(path: Path, remarks: list[str]) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path} is not a file; --weights takes a .safetensors file")
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(
            f"{path} cannot be read without running code that it holds, or is damaged. Save the "
            f"weights where they were made: {_SAVE}"
        ) from error
    return _state_dict(path, content, remarks)


def _state_dict(path: Path, content: Any, remarks: list[str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, which may hold them under a name beside other things."""
    if _is_state(content):
        return dict(content)
    entries = content if isinstance(content, Mapping) else {}
    inner = [str(key) for key, value in entries.items() if _is_state(value)]
    if len(inner) != 1:
        what = f"several: {', '.join(inner)}" if inner else "none"
        raise UserError(f"{path} must hold one state dict, it holds {what}. Save one: {_SAVE}")
    remarks.append(f"weights are those under {inner[0]!r} in {path.name}")
    return dict(entries[inner[0]])


def _is_state(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _without_prefix(
    found: dict[str, Tensor], wanted: Mapping[str, Tensor], remarks: list[str]
) -> dict[str, Tensor]:
    prefix, required = "", {n for n in wanted if n.rpartition(".")[2] != _COUNTER}
    stripped = found
    while not required <= stripped.keys():
        heads = {name.partition(".")[0] for name in stripped}
        if len(heads) != 1 or any("." not in name for name in stripped):
            return found
        prefix += f"{heads.pop()}."
        stripped = {name.partition(".")[2]: tensor for name, tensor in stripped.items()}
    if prefix:
        remarks.append(f"the prefix {prefix!r} was taken off the names of the weights")
    return stripped


def _check_names(
    path: Path, found: Mapping[str, Tensor], required: set[str], wanted: Mapping[str, Tensor]
) -> None:
    missing, unknown = sorted(required - found.keys()), sorted(found.keys() - wanted.keys())
    if not missing and not unknown:
        return
    parts = []
    if missing:
        parts.append(
            f"lacks {len(missing)} of the network's {len(wanted)} tensors: {_few(missing)}"
        )
    if unknown:
        parts.append(f"has {len(unknown)} that the network does not know: {_few(unknown)}")
    raise UserError(f"{path} {' and '.join(parts)}")


def _few(names: list[str], most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown}, ..." if len(names) > most else shown
