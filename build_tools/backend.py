"""The build backend: scikit-build-core, but for editable installs.

Those compile the core beside its sources and put the source folder on the path, nothing more:
scikit-build-core's own would install an import hook that outranks PYTHONPATH, so that a second
checkout could not be tested with the environment of the first.
"""

import base64
import hashlib
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from native import compile_in_place
from scikit_build_core.build import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile in place and write a wheel that points to the sources; return its file name.

    What keeps the core from being compiled is printed and does not keep the package from being
    installed; `wiry.Runtime` says so again when it is asked for.
    """
    compile_in_place()
    source = Path(__file__).resolve().parents[1] / "src"
    with tempfile.TemporaryDirectory() as folder:
        name = build_wheel(folder, {**(config_settings or {}), "wheel.cmake": "false"})
        with zipfile.ZipFile(Path(folder) / name) as plain:
            about = [member for member in plain.namelist() if ".dist-info/" in member]
            files = {member: plain.read(member) for member in about}
    (record,) = (member for member in about if member.endswith(".dist-info/RECORD"))
    del files[record]
    files["wiry.pth"] = f"{source}\n".encode()
    rows = [f"{member},sha256={_digest(data)},{len(data)}" for member, data in files.items()]
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for member, data in files.items():
            wheel.writestr(member, data)
    return name


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
