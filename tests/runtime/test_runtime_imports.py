"""The fast path needs numpy alone."""

import subprocess
import sys

from tests.export.example import trained

from wiry.export.sparse_file import save


def test_reading_a_network_for_the_runtime_imports_no_torch(tmp_path):
    save(trained(), tmp_path / "net.wiry", input_shape=(1, 2, 2))
    code = (
        "import sys; from wiry.export.sparse_read import read_sparse; "
        "from wiry.runtime.runtime import graph_of; from wiry.runtime.simplify import simplify; "
        f"content = read_sparse({str(tmp_path / 'net.wiry')!r}); "
        "arrays = {name: array.values for name, array in content.arrays.items()}; "
        "print([op['kind'] for op in simplify(graph_of(content, ''), arrays)]); "
        "assert not {'torch', 'safetensors', 'pydantic'} & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert found.stdout.strip() == "['flatten', 'linear', 'linear']"
