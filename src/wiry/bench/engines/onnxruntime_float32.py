"""ONNX Runtime on the dense network."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer
from wiry.core.registry import registry

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("onnxruntime")
@dataclasses.dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime, float32; zeros are multiplied like other weights."""

    exact = True
    maintained_dense = True

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write an `.onnx` file."""
        from wiry.bench.onnx_write import write_onnx

        return write_onnx(subject, folder / "network.onnx")

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Open a session."""
        from wiry.bench.onnx_run import open_onnx

        return open_onnx(path, batch_size=batch_size, num_threads=num_threads)
