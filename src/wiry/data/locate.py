"""Where data files lie: the folder in WIRY_DATA, else the user's cache, else a download into it.

Where files lie never changes a number, so it is no field of a recipe. What is in the files is read
by the data sets' own modules; they also check the content.
"""

import os
from pathlib import Path

import pooch

from wiry.core.errors import UserError

VARIABLE = "WIRY_DATA"


def cache_dir() -> Path:
    """Return the user's cache folder for data, such as `~/.cache/wiry/data`."""
    return Path(pooch.os_cache("wiry")) / "data"


def find(folder: str, file: str) -> Path | None:
    """Return a file of a data set if it is there: below WIRY_DATA if that is set, else the cache.

    Args:
        folder: the data set's folder, such as "mnist".
        file: path of the file inside of it.
    """
    path = _root() / folder / file
    return path if path.is_file() else None


def locate(folder: str, file: str, *, url: str, md5: str, instead: str = "") -> Path:
    """Return a file of a data set, downloaded into the user's cache if need be.

    Nothing is downloaded while WIRY_DATA is set: what is missing there is an error.

    Args:
        folder: the data set's folder, such as "mnist".
        file: path of the file inside of it.
        url: where it can be had.
        md5: checksum of the download in hex.
        instead: for the error message, other files that would do.

    Raises:
        UserError: if the file is missing from WIRY_DATA, or the download fails or is corrupted.
    """
    found = find(folder, file)
    if found is not None:
        return found
    if os.environ.get(VARIABLE):
        hint = f" (or {instead})" if instead else ""
        raise UserError(
            f"{VARIABLE} is {str(_root())!r}, which has no {folder}/{file}{hint}. Put it there, or "
            f"unset {VARIABLE} to have it downloaded into {cache_dir()}."
        )
    target = cache_dir() / folder
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=file, path=target))
    except (OSError, ValueError) as error:  # ValueError: the checksum of the download differs
        raise UserError(
            f"{folder}/{file} is not in {cache_dir()} and could not be downloaded from {url}: "
            f"{error}. Set {VARIABLE} to a folder that holds {folder}/{file}."
        ) from error


def corrupted(path: Path, what: str) -> UserError:
    """Return the error for a file whose content is not what it should be.

    Args:
        path: the file.
        what: what was found.
    """
    in_cache = path.is_relative_to(cache_dir())
    then = "it will be made again" if in_cache else "put a whole copy in its place"
    return UserError(f"{path} is corrupted: {what}. Delete it; {then}.")


def _root() -> Path:
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else cache_dir()
