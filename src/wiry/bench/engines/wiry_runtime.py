"""wiry's own sparse runtime."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer
from wiry.core.registry import registry
from wiry.runtime.runtime import Runtime

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("wiry")
@dataclasses.dataclass(frozen=True)
class WiryRuntime:
    """wiry.Runtime, float32; zeros cost nothing."""

    exact = True
    maintained_dense = False

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write a `.wiry` file."""
        from wiry.export.sparse_file import save

        path = folder / "network.wiry"
        save(subject.model, path, input_shape=subject.input_shape, mask=subject.mask)
        return path

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Load the file; kernels are tried when it is loaded."""
        return Runtime(path, num_threads=num_threads)
