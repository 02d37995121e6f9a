"""ONNX Runtime on the network without its dead channels."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer
from wiry.core.errors import UserError
from wiry.core.registry import registry

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("onnxruntime-shrunk")
@dataclasses.dataclass(frozen=True)
class OnnxRuntimeShrunk:
    """ONNX Runtime, float32, after channels that do nothing were taken out."""

    exact = True
    maintained_dense = False

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write an `.onnx` file of the smaller network."""
        from wiry.bench.onnx_write import write_onnx
        from wiry.bench.subject import Subject
        from wiry.export.shrink import shrink, size_report

        small = shrink(subject.model, subject.mask, subject.input_shape)
        sizes = size_report(subject.model, small)["channels"].values()
        if all(before == after for before, after in sizes):
            raise UserError("no channel is dead, so shrinking takes nothing out")
        smaller = Subject(small, type(subject.mask)(), subject.input_shape, subject.images)
        return write_onnx(smaller, folder / "shrunk.onnx")

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Open a session."""
        from wiry.bench.onnx_run import open_onnx

        return open_onnx(path, batch_size=batch_size, num_threads=num_threads)
