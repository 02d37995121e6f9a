"""PyTorch's compiler."""

import dataclasses
from pathlib import Path

import numpy as np

from wiry.bench.base import Answer
from wiry.bench.engines.torch_eager import asked, read_module, write_module
from wiry.bench.subject import Subject
from wiry.core.errors import UserError
from wiry.core.registry import registry


@registry("engine").register("torch-compile")
@dataclasses.dataclass(frozen=True)
class TorchCompile:
    """torch.compile with frozen weights, float32; it compiles for a minute and needs a compiler."""

    exact = True
    maintained_dense = False

    def write(self, subject: Subject, folder: Path) -> Path:
        """Write the module as torch pickles it."""
        return write_module(subject, folder)

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Compile the module for one shape."""
        import torch._inductor.config

        model = torch.compile(read_module(path), dynamic=False)
        answer = asked(model, num_threads)
        try:
            with torch._inductor.config.patch(freezing=True):
                answer(np.zeros((batch_size, *input_shape), np.float32))
        except Exception as error:  # its own, and the compiler's
            text = " ".join(str(error).split())[:200]
            raise UserError(f"torch.compile failed (no C++ compiler?): {text}") from error
        return answer
