"""ONNX: for ONNX Runtime and everything else that reads it. Extra `wiry[onnx]`."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from torch import nn

from wiry.core.registry import registry
from wiry.export.artifact import Subject
from wiry.export.onnx_model import load_onnx
from wiry.export.onnx_write import write_int8, write_onnx

_LOADING = """\
import onnxruntime

session = onnxruntime.InferenceSession("NAME")
(logits,) = session.run(["logits"], {"images": images})  # float32 (n, c, h, w) in [0, 1], any n"""


@registry("format").register("onnx")
@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """A graph of ONNX operators with its weights; int8 with a scale for every channel."""

    suffix: ClassVar = ".onnx"
    dtypes: ClassVar = ("int8",)
    zeros: ClassVar = (
        "Zeros are stored and multiplied like other weights: no engine for ONNX that we know is "
        "faster or smaller for them. Channels that --shrink takes out do count."
    )
    loading: ClassVar = _LOADING

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Write the graph."""
        (write_int8 if dtype == "int8" else write_onnx)(subject, path)

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return ONNX Runtime's answers."""
        return load_onnx(path), "ONNX Runtime"
