"""Named tensors and masks on disk, in the safetensors format: data only, nothing is ever unpickled.

Training and export write and read through this file. It knows names, shapes and types of tensors;
whether they fit a model is for the caller (`Mask.check`, `load_state_dict`) to say.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wiry.core.errors import UserError
from wiry.core.files import write_atomic
from wiry.core.mask import Mask


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors whole or not at all; equal tensors and metadata give equal bytes.

    Args:
        tensors: on any device, of any layout; tensors that share memory are written apart.
        metadata: free text, kept in the file's header.
    """
    plain = {
        name: tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in sorted(tensors)
    }
    data = safetensors.torch.save(plain, dict(metadata) if metadata else None)
    write_atomic(path, _with_sorted_header(data) if metadata else data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors onto the CPU.

    Raises:
        UserError: naming the file, if it is missing, cut short, damaged or of another format.
    """
    try:
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file: {' '.join(str(error).split())[:200]}. "
            "It is cut short, damaged or of another format; restore it or make it again."
        ) from None


def save_mask(path: Path, mask: Mask) -> None:
    """Write a mask as uint8 tensors (1 = kept); a name that is absent is dense."""
    save_tensors(path, {name: value.to(torch.uint8) for name, value in mask.items()})


def load_mask(path: Path) -> Mask:
    """Read what `save_mask` wrote.

    Raises:
        UserError: naming the file, if it cannot be read or holds other than 0 and 1 in uint8.
    """
    entries = load_tensors(path)
    for name, value in entries.items():
        if value.dtype != torch.uint8 or (value.numel() and int(value.max()) > 1):
            raise UserError(
                f"{path} is not a mask: {name!r} must hold 0 and 1 in uint8, "
                f"found {str(value.dtype).removeprefix('torch.')}"
            )
    return Mask(entries)


def _with_sorted_header(data: bytes) -> bytes:
    # the library writes metadata in the order of a hash map, which differs from process to process
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]
