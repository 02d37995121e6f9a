"""ONNX Runtime on a channel-pruned network of as many weights as the sparse one."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer
from wiry.core.registry import registry

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("onnxruntime-channels")
@dataclasses.dataclass(frozen=True)
class OnnxRuntimeChannels:
    """ONNX Runtime, float32, as fast as if channels had been pruned to as many weights.

    The weakest channels are taken out. Nothing is trained after that: this says how fast such a
    network would be, not how good.
    """

    exact = False
    maintained_dense = False

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write an `.onnx` file of the smaller network."""
        from wiry.bench.channels import with_few_channels
        from wiry.bench.onnx_write import write_onnx

        return write_onnx(with_few_channels(subject), folder / "channels.onnx")

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Open a session."""
        from wiry.bench.onnx_run import open_onnx

        return open_onnx(path, batch_size=batch_size, num_threads=num_threads)
