"""Reads the two files of an evaluation and refuses damage by name; `Table.save` writes them."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.errors import UserError
from wiry.core.files import checksum, read_json


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON of an evaluation.

    Raises:
        UserError: naming the file, if it is missing, malformed or not an evaluation.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("table_sha256"), str):
        raise UserError(f"{path} is not an evaluation; delete it to have it made again")
    return record


def check_table(path: Path, record: dict[str, Any]) -> None:
    """Check that an .npz is the one its record was written with.

    Raises:
        UserError: naming the file, if it is missing, damaged or of another evaluation.
    """
    try:
        found = checksum(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if found != record["table_sha256"]:
        raise UserError(
            f"{path} is damaged or of another evaluation: its checksum is not the one in the .json "
            "beside it. Delete both to have them made again."
        )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz; nothing is unpickled.

    Raises:
        UserError: naming the file, if it is missing, cut short, damaged or of another format.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise UserError(f"{path} is not a readable .npz: {error}") from error


_UNREADABLE = (ValueError, KeyError, EOFError, AttributeError, NotImplementedError, RuntimeError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)
