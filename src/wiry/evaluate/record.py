"""One evaluation as a pair of files: judged, costed, written once and read back after that."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.evaluate.cost import cost
from wiry.evaluate.files import check_table, read_record
from wiry.evaluate.job import Progress
from wiry.evaluate.table import describe, evaluate


def run_evaluation(
    model: nn.Module,
    mask: Mask,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    split: str,
    class_names: Sequence[str],
    input_shape: tuple[int, ...],
    seed: int,
    folder: Path,
    name: str,
    cascade: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a model, count its cost and write `<name>.json` and `<name>.npz`, once.

    If both files are there, whole, and answer the same question (split, number of images, seed,
    attacks and the very weights), their record is returned and nothing is computed. Otherwise they
    are made and replaced.

    Args:
        attacks: attacks or their specs.
        name: name of the files without ending.
        cascade: run each attack only on what the earlier ones left.

    Returns:
        The record as it is on disk.

    Raises:
        UserError: for attacks or images that cannot be used, or a mask that does not fit.
        AssertionError: if a weight that is masked out is not zero, or an attack leaves its ball.
    """
    attacks = [registry("attack").build(attack) for attack in attacks]
    question = {
        "split": split,
        "num_samples": len(x),
        "seed": seed,
        "cascade": cascade,
        "specs": [describe(attack)["spec"] for attack in attacks],
        "weights_sha256": fingerprint(model),
    }
    if (found := _finished(folder, name, question)) is not None:
        return found
    counted = cost(model, mask, input_shape=input_shape)
    _check_masked(model, mask)
    begin = time.perf_counter()
    table = evaluate(model, x, y, attacks, seed=seed, cascade=cascade, progress=progress)
    seconds = time.perf_counter() - begin
    summary = table.summary(split=split, class_names=class_names, seconds=seconds)
    summary["cost"] = counted
    summary["weights_sha256"] = question["weights_sha256"]
    return table.save(folder, name, summary)


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _finished(folder: Path, name: str, question: dict[str, Any]) -> dict[str, Any] | None:
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
        check_table(path.with_suffix(".npz"), record)
        answered = {key: record[key] for key in question if key != "specs"}
        answered["specs"] = [row["spec"] for row in record["attacks"]]
    except (UserError, KeyError, TypeError):
        return None  # damaged or of another version: made again
    return record if answered == question else None


def _check_masked(model: nn.Module, mask: Mask) -> None:
    parameters = dict(model.named_parameters())
    for name, kept in mask.items():
        pruned = parameters[name].detach()[~kept.to(parameters[name].device)]
        assert not bool(pruned.nan_to_num(0).any()), f"{name!r} has weights where it is masked out"
