"""The `.wiry` file: small, exact, and fast on a CPU with `wiry.Runtime`."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import NoGradient, UserError
from wiry.core.registry import registry
from wiry.export.artifact import Subject
from wiry.export.load import load
from wiry.export.sparse_file import save
from wiry.runtime.runtime import Runtime, native

_LOADING = """\
import wiry

run = wiry.Runtime("NAME", num_threads=1)  # numpy in, numpy out, without torch
logits = run(images)  # float32 (n, c, h, w) in [0, 1]
model = wiry.load("NAME")  # or an ordinary torch.nn.Module, if wiry built it"""


@registry("format").register("wiry")
@dataclasses.dataclass(frozen=True)
class WiryFile:
    """Bit mask and kept values, compressed; docs/format.md."""

    suffix: ClassVar = ".wiry"
    dtypes: ClassVar = ("float16", "bfloat16")
    zeros: ClassVar = "Zeros take no space in the file, and wiry.Runtime skips them."
    loading: ClassVar = _LOADING

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Write the file, with recipe, class names and, if nothing is rounded, the evaluation."""
        save(
            subject.model,
            path,
            input_shape=subject.input_shape,
            mask=subject.mask,
            recipe=subject.recipe,
            class_names=subject.class_names or None,
            evaluation=subject.evaluation if dtype is None else None,
            dtype=cast("Literal['float16', 'bfloat16'] | None", dtype),
        )

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return the runtime's answers where it is compiled and knows the layers, else torch's."""
        try:
            native()
            return RuntimeModel(Runtime(path)), "wiry.Runtime"
        except UserError as error:
            return load(path), f"wiry.load (not wiry.Runtime: {error})"


class RuntimeModel(nn.Module):
    """A runtime as a network without gradients."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits.

        Raises:
            NoGradient: if somebody wants to differentiate.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise NoGradient("wiry.Runtime answers without gradients")
        images = np.ascontiguousarray(x.detach().cpu().numpy(), np.float32)
        return torch.from_numpy(self.runtime(images)).to(x.device)

    def __deepcopy__(self, memo: object) -> "RuntimeModel":
        """Return the network itself: it does not change."""
        return self
