"""From numpy arrays to the bytes of a `.wiry` file; the counterpart of `sparse_read`, no torch.

Which tensors a network has and what is known of it is for `sparse_file` to say.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from wiry.core.errors import UserError
from wiry.export.sparse_container import Array, dump_container
from wiry.export.sparse_read import BITS, FORMAT, FORMAT_VERSION, VALUES, digest, widened


def dump_sparse(
    arrays: Mapping[str, Array],
    masks: Mapping[str, np.ndarray[Any, Any]],
    facts: Mapping[str, Any],
    dtypes: Mapping[str, str],
) -> bytes:
    """Return the bytes of a `.wiry` file.

    An array with a mask is stored as the mask and the kept entries, zero or not. One without is
    stored as which bit patterns are not zero, and those, if it has two or more dimensions and gets
    smaller by it; else as it is.

    Args:
        arrays: as they are stored, in the order that they come back in.
        masks: True = kept, of the shapes of the arrays.
        facts: plain data, see `SparseContent`.
        dtypes: the type that an array has when it is read, where it is wider than the stored one.

    Raises:
        UserError: if two names collide, or facts are not plain data or too many.
    """
    stored: dict[str, Array] = {}
    rows: dict[str, Any] = {}
    num_expected = 0
    for name, array in arrays.items():
        parts, rows[name] = _encoded(name, array, masks.get(name), dtypes.get(name, array.dtype))
        stored |= parts
        num_expected += len(parts)
    if len(stored) != num_expected or "__metadata__" in stored:
        raise UserError(
            f"a tensor's name begins with {BITS!r} or {VALUES!r} or is '__metadata__', which mean "
            "something else in a .wiry file; rename it"
        )
    manifest = _json({**facts, "tensors": rows})
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "manifest": manifest,
        "manifest_sha256": hashlib.sha256(manifest.encode()).hexdigest(),
    }
    return dump_container(stored, metadata)


def _encoded(
    name: str, array: Array, mask: np.ndarray[Any, Any] | None, dtype: str
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what is stored of an array, and the manifest's row of it."""
    values = array.values
    pattern = values.view(f"<u{values.itemsize}")  # -0.0 is not the pattern of zero
    kept = pattern != 0 if mask is None else mask
    packed = values[kept]
    bits = np.packbits(kept.reshape(-1))
    pays = values.ndim >= 2 and bits.nbytes + packed.nbytes < values.nbytes
    row: dict[str, Any] = {
        "layout": "bitmask" if pays or mask is not None else "dense",
        "dtype": dtype,
        "stored": array.dtype,
        "shape": list(values.shape),
        "mask": mask is not None,
        "sha256": "",
        "bits_sha256": None,
    }
    if row["layout"] == "dense":
        row["sha256"] = digest(widened(array, dtype).values)
        return {name: array}, row
    masked = np.zeros_like(values)
    masked[kept] = packed
    row["sha256"] = digest(widened(Array(array.dtype, masked), dtype).values)
    row["bits_sha256"] = digest(bits)
    return {BITS + name: Array("U8", bits), VALUES + name: Array(array.dtype, packed)}, row


def _json(data: dict[str, Any]) -> str:
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"recipe, evaluation, class names and input shape must be plain data: {error}"
        ) from error
