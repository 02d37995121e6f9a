"""ONNX Runtime on an int8 copy of the network."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer
from wiry.core.registry import registry

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("onnxruntime-int8")
@dataclasses.dataclass(frozen=True)
class OnnxRuntimeInt8:
    """ONNX Runtime, int8 (static, one scale a channel): another function than the network."""

    exact = False
    maintained_dense = False

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write an `.onnx` file of int8 weights; ranges are chosen by the subject's images."""
        from wiry.bench.onnx_run import quantise
        from wiry.bench.onnx_write import write_onnx

        source = write_onnx(subject, folder / "float32.onnx")
        return quantise(source, folder / "int8.onnx", subject.calibration().numpy())

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Open a session."""
        from wiry.bench.onnx_run import open_onnx

        return open_onnx(path, batch_size=batch_size, num_threads=num_threads)
