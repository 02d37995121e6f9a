"""The fast path needs numpy alone."""

import subprocess
import sys

import pytest
from tests.export.example import trained

from wiry.export.sparse_file import save

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")


def test_a_fresh_process_with_the_runtime_never_imports_torch(tmp_path):
    save(trained(), tmp_path / "net.wiry", input_shape=(1, 2, 2))
    code = (
        "import sys, numpy, wiry; "
        f"runtime = wiry.Runtime({str(tmp_path / 'net.wiry')!r}); "
        "print(runtime(numpy.zeros((2, 1, 2, 2), numpy.float32)).shape); "
        "assert not {'torch', 'safetensors', 'pydantic'} & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert found.stdout.strip() == "(2, 2)"
