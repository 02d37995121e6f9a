"""A `.wiry` file as numpy arrays: weights, masks and what is known of the network; no torch.

The file is checked throughout: sizes before anything is allocated, then checksums. `sparse_file`
makes tensors of what comes out; docs/format.md describes the file.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.errors import UserError
from wiry.export.sparse_container import (
    MAX_BYTES,
    NUMPY,
    Array,
    is_shape,
    parse_container,
    parse_json,
    read_bytes,
    refuse,
)

FORMAT, FORMAT_VERSION = "wiry-sparse", "1"
BITS, VALUES = "bits:", "values:"
WIDER = {"F16": ("F32", "F64"), "BF16": ("F32", "F64")}  # type of stored values: type it stands for
_ROW = {"layout", "dtype", "stored", "shape", "mask", "sha256", "bits_sha256"}


@dataclass(frozen=True, eq=False)
class SparseContent:
    """What a `.wiry` file holds, decoded.

    Attributes:
        arrays: every tensor of the network's state, in its order; bfloat16 as its bits.
        masks: which entries are kept (True), for the tensors that were saved with a mask.
        facts: "model", "input_shape", "num_classes", "class_names", "normalisation", "recipe",
            "evaluation", "rounding", "graph", "graph_fault", "wiry"; None where not known. What is
            in the graph is checked by `wiry.runtime.graph`.
    """

    arrays: dict[str, Array]
    masks: dict[str, np.ndarray[Any, Any]]
    facts: dict[str, Any]


def read_sparse(path: Path | str, *, max_bytes: int = MAX_BYTES) -> SparseContent:
    """Read a `.wiry` file, compressed or not.

    Args:
        max_bytes: most bytes that the file, the container in it and the decoded tensors may have,
            each; a file that says it has more is refused before anything is allocated.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    path = Path(path)
    return parse_sparse(path, read_bytes(path, max_bytes), max_bytes=max_bytes)


def parse_sparse(path: Path, data: bytes, *, max_bytes: int = MAX_BYTES) -> SparseContent:
    """Read the bytes of a `.wiry` file; `path` is for messages (see `read_sparse`)."""
    try:
        metadata, stored = parse_container(path, data, max_bytes=max_bytes)
        manifest = _manifest(path, metadata)
        rows = manifest.pop("tensors")
        _check_rows(path, rows, stored, max_bytes)
        arrays, masks = {}, {}
        for name, row in rows.items():
            arrays[name], kept = _decoded(path, name, row, stored)
            if row["mask"]:
                masks[name] = kept
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory") from error
    return SparseContent(arrays, masks, manifest)


def widened(array: Array, dtype: str) -> Array:
    """Return an array of 16-bit floats in a wider type; every value stays what it is."""
    if array.dtype == dtype:
        return array
    assert dtype in WIDER[array.dtype], (array.dtype, dtype)
    values = array.values
    with np.errstate(invalid="ignore"):  # signalling NaN
        if array.dtype == "BF16":
            values = (values.astype("<u4") << np.uint32(16)).view("<f4")
        return Array(dtype, values.astype(NUMPY[dtype]))


def digest(values: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an array's little-endian bytes, rows first, in hex."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return hashlib.sha256(flat.view("u1").data).hexdigest()


def unpacked(bits: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return a mask from its packed bits, the first entry in the highest bit of the first byte."""
    return np.unpackbits(bits, count=math.prod(shape)).view(np.bool_).reshape(shape)


def _manifest(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        refuse(path, f"its metadata does not say {FORMAT!r}")
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}, this wiry reads {FORMAT_VERSION!r}; "
            "install a wiry that fits"
        )
    text = metadata.get("manifest", "")
    if hashlib.sha256(text.encode(errors="replace")).hexdigest() != metadata.get("manifest_sha256"):
        refuse(path, "the checksum of its manifest differs from its content")
    manifest: dict[str, Any] = {"graph": None, "graph_fault": None}
    manifest |= parse_json(path, text, "manifest")
    names, numbers = manifest.get("class_names"), manifest.get("normalisation")
    count, spec = manifest.get("num_classes"), manifest.get("model")
    faults = {
        "tensors": not isinstance(manifest.get("tensors"), dict),
        "model": not isinstance(spec, dict | None),
        "input_shape": not is_shape(manifest.get("input_shape")) or 0 in manifest["input_shape"],
        "num_classes": not ((type(count) is int and count > 0) or count is spec is None),
        "class_names": names is not None
        and not (_is_list(names, str) and count in (None, len(names))),
        "normalisation": numbers is not None and not _is_normalisation(numbers),
        "recipe": not isinstance(manifest.get("recipe"), dict | None),
        "evaluation": not isinstance(manifest.get("evaluation"), dict | None),
        "rounding": not isinstance(manifest.get("rounding"), dict | None),
        "graph": not isinstance(manifest["graph"], dict | None),
        "graph_fault": not isinstance(manifest["graph_fault"], str | None),
        "wiry": not isinstance(manifest.get("wiry"), str),
    }
    for field, is_faulty in faults.items():
        if is_faulty or field not in manifest:
            refuse(path, f"{field} in its manifest is missing or malformed")
    return manifest


def _is_list(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(type(item) in kinds for item in value)


def _is_normalisation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std"}
        and all(_is_list(numbers, int, float) for numbers in value.values())
    )


def _check_rows(path: Path, rows: dict[str, Any], stored: dict[str, Array], max_bytes: int) -> None:
    """Check that the manifest and the container speak of the same arrays, and their sizes."""
    expected: set[str] = set()
    total = 0
    for name, row in rows.items():
        if not isinstance(row, dict) or row.keys() != _ROW or not _is_sound(row):
            refuse(path, f"the manifest's row of {name!r} is malformed")
        shape, num_entries = tuple(row["shape"]), math.prod(row["shape"])
        if row["layout"] == "dense":
            places = {name: (row["stored"], shape)}
        else:
            values = stored.get(VALUES + name)
            num_values = values.values.size if values is not None else 0
            places = {
                BITS + name: ("U8", (-(-num_entries // 8),)),
                VALUES + name: (row["stored"], (num_values,)),
            }
        for place, (dtype, wanted) in places.items():
            found = stored.get(place)
            if found is None or found.dtype != dtype or found.values.shape != wanted:
                refuse(path, f"{place!r} is missing or is not {dtype} {wanted}")
        expected |= places.keys()
        total += num_entries * NUMPY[row["dtype"]].itemsize
    if unknown := sorted(stored.keys() - expected):
        refuse(path, f"its manifest does not know {unknown[0]!r}")
    if total > max_bytes:
        raise UserError(
            f"{path} holds tensors of {total:,} bytes, at most {max_bytes:,} are decoded; if you "
            "trust the file, give a larger max_bytes"
        )


def _is_sound(row: dict[str, Any]) -> bool:
    dtype, stored, layout, sums = (row[k] for k in ("dtype", "stored", "layout", "bits_sha256"))
    is_dense = layout == "dense" and sums is None and row["mask"] is False
    is_bitmask = layout == "bitmask" and isinstance(sums, str) and type(row["mask"]) is bool
    return (
        (is_dense or is_bitmask)
        and isinstance(dtype, str)
        and isinstance(stored, str)
        and dtype in NUMPY
        and (stored == dtype or dtype in WIDER.get(stored, ()))
        and is_shape(row["shape"])
        and isinstance(row["sha256"], str)
    )


def _decoded(
    path: Path, name: str, row: dict[str, Any], stored: dict[str, Array]
) -> tuple[Array, np.ndarray[Any, Any]]:
    """Return an array and, of the bitmask layout, which of its entries are stored."""
    shape, kept = tuple(row["shape"]), np.empty(0, np.bool_)
    if row["layout"] == "dense":
        array = widened(stored[name], row["dtype"])
        array = Array(array.dtype, array.values.copy())
    else:
        bits = stored[BITS + name].values
        kept = unpacked(bits, shape)
        packed = widened(stored[VALUES + name], row["dtype"])
        spare = int(bits[-1]) & (0xFF >> (kept.size % 8)) if kept.size % 8 else 0
        if spare or np.count_nonzero(kept) != packed.values.size:
            refuse(path, f"the bits of {name!r} do not fit its values")
        if digest(bits) != row["bits_sha256"]:
            refuse(path, f"the checksum of the bits of {name!r} differs from its content")
        values = np.zeros(shape, NUMPY[row["dtype"]])
        values[kept] = packed.values
        array = Array(row["dtype"], values)
    if digest(array.values) != row["sha256"]:
        refuse(path, f"the checksum of {name!r} differs from its content")
    return array, kept
