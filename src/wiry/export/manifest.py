"""`bundle.json`: what a bundle holds, how its model is built, and the checksum of every file.

Read here with every doubt raised by name; nothing in a bundle is trusted before it is checked, and
nothing is ever unpickled or imported from one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeGuard

from wiry.core.errors import UserError
from wiry.core.files import checksum, read_json, write_json

MANIFEST = "bundle.json"
FORMAT, FORMAT_VERSION = "wiry-bundle", 1
WEIGHTS, MASK = "weights.safetensors", "mask.safetensors"

_ADVICE = "Fetch or export the bundle again."


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write `bundle.json` with the checksums of all other files in the folder, and its own."""
    files = {path.name: checksum(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **content, "files": files}
    write_json(folder / MANIFEST, manifest | {"manifest_sha256": _digest(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `bundle.json` and check it and every file it names.

    Raises:
        UserError: naming the file that is missing, damaged, foreign or outside the folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"{str(folder)!r} is not a bundle: it has no {MANIFEST}")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not the {MANIFEST} of a wiry bundle. {_ADVICE}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {manifest.get('format_version')!r}, this wiry reads "
            f"{FORMAT_VERSION}; install a wiry that fits"
        )
    recorded = manifest.pop("manifest_sha256", None)
    if recorded != _digest(manifest):
        raise UserError(f"{path} is corrupted: its checksum differs from its content. {_ADVICE}")
    _check_fields(path, manifest)
    for name, expected in manifest["files"].items():
        _check_file(path, name, expected)
    return manifest


def _check_fields(path: Path, manifest: dict[str, Any]) -> None:
    shape, names = manifest.get("input_shape"), manifest.get("class_names")
    files = manifest.get("files")
    faults = {
        "model": not isinstance(manifest.get("model"), dict),
        "input_shape": not _is_list(shape, int) or len(shape) != 3 or min(shape) < 1,
        "class_names": not _is_list(names, str) or len(names) != manifest.get("num_classes"),
        "files": not isinstance(files, dict) or not {WEIGHTS, MASK} <= files.keys(),
    }
    for field, is_faulty in faults.items():
        if is_faulty:
            raise UserError(f"{path}: {field} is missing or malformed. {_ADVICE}")


def _is_list(value: Any, kind: type) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _check_file(manifest: Path, name: str, expected: str) -> None:
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0:"):
        raise UserError(f"{manifest} names {name!r}, which is not a file in the bundle. {_ADVICE}")
    path = manifest.parent / name
    if not path.is_file():
        raise UserError(f"{path} is missing. {_ADVICE}")
    try:
        found = checksum(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if found != expected:
        raise UserError(
            f"{path} is corrupted: its checksum differs from the one in {MANIFEST}. {_ADVICE}"
        )


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
