"""Resume files: self-checking, written atomically, the last two kept.

The name carries the checksum of the content (`resume-00000420-<16 hex>.pt`), so a damaged file is
recognised without a second file, and the one before it is used. Readable with `weights_only=True`.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wiry.core.files import write_atomic
from wiry.train.fit import Training


def save_checkpoint(training: Training, folder: Path) -> Path:
    """Write the whole state of a training; older files but the last one are removed."""
    buffer = io.BytesIO()
    torch.save(_state_of(training), buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = folder / f"resume-{training.progress.num_batches:08d}-{digest}.pt"
    write_atomic(path, content)
    for old in _checkpoints(folder)[2:]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(training: Training, folder: Path, identity: str) -> list[str]:
    """Restore the newest sound checkpoint of a stage, if there is one.

    Returns:
        One line for every file that was refused, with the reason.
    """
    refused = []
    for path in _checkpoints(folder):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.stem.rpartition("-")[2]:
            refused.append(f"{path.name} is corrupted (its checksum differs); using the one before")
            continue
        try:
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if saved["identity"] != identity:
                refused.append(f"{path.name} belongs to another stage; using the one before")
                continue
        except Exception as error:
            refused.append(
                f"{path.name} cannot be read ({type(error).__name__}); using the one before"
            )
            continue
        _restore(training, saved)
        return refused
    return refused


def remove_checkpoints(folder: Path) -> None:
    """Delete the resume files of a finished stage."""
    for path in _checkpoints(folder):
        path.unlink()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("resume-*.pt"), reverse=True)


def _state_of(t: Training) -> dict[str, Any]:
    return {
        "identity": t.identity,
        "model": _own(t.model.state_dict()),
        "optimizer": _own(t.optimizer.state_dict()),
        "state": t.state.state_dict(),
        "average": t.average.state_dict() if t.average is not None else None,
        "progress": {
            "num_batches": t.progress.num_batches,
            "sums": _own(t.progress.sums),
            "seconds": t.progress.seconds,
        },
    }


def _own(value: Any) -> Any:
    """Copy tensors that are a part of a larger one, which would be written whole."""
    if isinstance(value, dict):
        return {key: _own(part) for key, part in value.items()}
    if isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value


def _restore(t: Training, saved: dict[str, Any]) -> None:
    t.model.load_state_dict(saved["model"])
    t.optimizer.load_state_dict(saved["optimizer"])
    device = next(t.model.parameters()).device
    t.state.load_state_dict(saved["state"])
    t.state.to(device)
    if t.average is not None:
        t.average.load_state_dict(saved["average"])
    t.progress.num_batches = saved["progress"]["num_batches"]
    t.progress.sums = {n: value.to(device) for n, value in saved["progress"]["sums"].items()}
    t.progress.seconds = saved["progress"]["seconds"]
