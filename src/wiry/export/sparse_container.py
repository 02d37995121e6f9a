"""The bytes of a `.wiry` file: named arrays in a safetensors container, zstd around it if it pays.

Needs numpy and zstandard, not torch. Reading believes nothing: every size is checked against the
bytes that are there before anything is allocated. What the arrays mean is `sparse_read`'s to say;
the whole format is described in docs/format.md.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import zstandard

from wiry.core.errors import UserError

MAX_BYTES = 4 * 2**30
MAX_HEADER = 4 * 2**20  # parsed JSON takes up to forty times its text
MAX_DIMENSIONS = 32  # of an array in numpy 1
NUMPY = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: its bits
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_MAGIC = b"\x28\xb5\x2f\xfd"  # as a header's length it would be 4.2 GB: never a container
_LEVEL = 9  # the last one before compression takes longer than training a small network
_MAX_RATIO = 2**15  # a zstd block holds at most 128 KiB and takes at least 4 bytes
_LEAST_GAIN = 0.01  # zstd that saves less is left out


@dataclass(frozen=True, eq=False)
class Array:
    """An array and the name of its type in safetensors.

    Attributes:
        dtype: a key of `NUMPY`.
        values: of the numpy type that `NUMPY` names.
    """

    dtype: str
    values: np.ndarray[Any, Any]


def refuse(path: Path, fault: str) -> NoReturn:
    """Raise the error of a file that is not what it should be."""
    raise UserError(
        f"{path} is not a readable .wiry file: {fault}. It is cut short, damaged or of another "
        "format; fetch it or save it again."
    )


def dump_container(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file; equal arguments give equal bytes.

    Raises:
        UserError: if names and metadata take more than 4 MiB.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset, parts = 0, []
    # the widest type first, so that every array is aligned, and bits beside bits
    for name in sorted(arrays, key=lambda name: (-arrays[name].values.itemsize, name)):
        values = arrays[name].values
        end = offset + values.nbytes
        header[name] = {
            "dtype": arrays[name].dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, end],
        }
        parts.append(np.ascontiguousarray(values).tobytes())
        offset = end
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise UserError(
            f"recipe, evaluation and the tensors' names take {len(text):,} bytes, a .wiry file "
            f"holds {MAX_HEADER:,}; leave the evaluation's details out"
        )
    plain = b"".join([len(text).to_bytes(8, "little"), text, *parts])
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(plain)
    return packed if len(packed) <= (1 - _LEAST_GAIN) * len(plain) else plain


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a file's bytes.

    Raises:
        UserError: if it is no file, cannot be read or is larger than `max_bytes`.
    """
    try:
        if not path.is_file():
            why = "it is a folder" if path.is_dir() else "there is no such file"
            raise UserError(f"{path} cannot be read: {why}")
        if (size := path.stat().st_size) > max_bytes:
            _too_large(path, size, max_bytes)
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def parse_container(
    path: Path, data: bytes, *, max_bytes: int = MAX_BYTES
) -> tuple[dict[str, str], dict[str, Array]]:
    """Return metadata and arrays of a file's bytes; the arrays are read-only views.

    Args:
        path: for messages.
        max_bytes: most bytes that the container may have once zstd is off.

    Raises:
        UserError: naming the file and the fault.
    """
    data = _plain(path, data, max_bytes)
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > len(data) or start > MAX_HEADER + 8:
        refuse(path, "the length of its header is wrong")
    header = parse_json(path, data[8:start], "header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        refuse(path, "its metadata is malformed")
    places = {name: _place(path, name, entry) for name, entry in header.items()}
    position = 0
    for name in sorted(places, key=lambda name: places[name][2:]):
        _, _, begin, end = places[name]
        if begin != position or end > len(data) - start:
            refuse(path, f"{name!r} is not where the tensor before it ends, or beyond the end")
        position = end
    if position != len(data) - start:
        refuse(path, "there are bytes that belong to no tensor")
    arrays = {n: _array(path, n, data, start, *place) for n, place in places.items()}
    return metadata, arrays


def parse_json(path: Path, text: bytes | str, what: str) -> dict[str, Any]:
    """Return a JSON object from a file; keys that are there twice, NaN and infinity are refused.

    Raises:
        UserError: naming the file.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        refuse(path, f"its {what} is not valid JSON: {ascii(str(error))[1:-1][:150]}")
    if not isinstance(data, dict):
        refuse(path, f"its {what} is not a JSON object")
    return data


def is_shape(value: Any) -> bool:
    """Say whether a value from JSON can be the shape of an array that fits into an address."""
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return False
    whole = all(type(n) is int and 0 <= n < 2**60 for n in value)
    return whole and math.prod(max(n, 1) for n in value) < 2**60  # of 8 bytes each: below 2**63


def _plain(path: Path, data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(_MAGIC):
        return data
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > _MAX_RATIO * len(data):
            refuse(path, "the size that its zstd frame declares is not possible")
        if size > max_bytes:
            _too_large(path, size, max_bytes)
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        refuse(path, f"zstd says {str(error)!r}")


def _too_large(path: Path, size: int, max_bytes: int) -> NoReturn:
    raise UserError(
        f"{path} holds {size:,} bytes, at most {max_bytes:,} are read; if you trust the file, "
        "give a larger max_bytes"
    )


def _place(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Return type, shape, begin and end of an array, which agree with each other."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(path, f"the entry of {name!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY:
        refuse(path, f"{name!r} has a type that is not one of {', '.join(NUMPY)}")
    if not is_shape(shape):
        refuse(path, f"the shape of {name!r} is malformed")
    if not (
        isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets)
    ):
        refuse(path, f"the offsets of {name!r} are malformed")
    begin, end = offsets
    if begin < 0 or end - begin != math.prod(shape) * NUMPY[dtype].itemsize:
        refuse(path, f"the offsets of {name!r} do not fit its type and shape")
    return dtype, tuple(shape), begin, end


def _array(
    path: Path,
    name: str,
    data: bytes,
    start: int,
    dtype: str,
    shape: tuple[int, ...],
    begin: int,
    end: int,
) -> Array:
    raw = np.frombuffer(data, dtype="u1", count=end - begin, offset=start + begin)
    if dtype == "BOOL" and raw.size and int(raw.max()) > 1:
        refuse(path, f"{name!r} is BOOL but has other bytes than 0 and 1")
    return Array(dtype, raw.view(NUMPY[dtype]).reshape(shape))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key is there twice")
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
