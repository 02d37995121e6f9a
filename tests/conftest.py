"""Fixtures of the whole suite: one torch thread, and the folder with real data if there is one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Compile the sparse runtime if it is missing or older than its sources.

    Without a compiler its tests are skipped; `make native`, which CI runs first, fails then.
    """
    if hasattr(config, "workerinput"):  # the first process of several does it
        return
    room = ROOT / "src" / "wiry" / "runtime"
    sources = [ROOT / "CMakeLists.txt", *(p for p in room.glob("native/**/*") if p.is_file())]
    made = max((p.stat().st_mtime for p in room.glob("_native*")), default=0.0)
    if made < max(p.stat().st_mtime for p in sources):
        subprocess.run([sys.executable, ROOT / "build_tools" / "native.py"], check=False)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests share the machine with each other and their tensors are tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with mnist/, fashion-mnist/ and cifar10/; the test is skipped without one."""
    given = os.environ.get("WIRY_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set WIRY_DATA to a folder that has it")
    return folder
