"""OpenVINO: a file `.xml` and a file `.bin`. Extra `wiry[openvino]`."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import NoGradient, UserError
from wiry.core.registry import registry
from wiry.export.artifact import Subject
from wiry.export.onnx_write import write_int8, write_onnx

_LOADING = """\
import openvino

model = openvino.compile_model("NAME", "CPU")  # the .bin file lies beside it
logits = model(images)[0]  # float32 (n, c, h, w) in [0, 1], any n"""


@registry("format").register("openvino")
@dataclasses.dataclass(frozen=True)
class OpenvinoFiles:
    """An OpenVINO model; float16 rounds the weights that are stored, int8 comes by way of ONNX."""

    suffix: ClassVar = ".xml"
    dtypes: ClassVar = ("float16", "int8")
    zeros: ClassVar = (
        "Zeros are stored and multiplied like other weights: neither smaller nor faster. Channels "
        "that --shrink takes out do count."
    )
    loading: ClassVar = _LOADING

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Write both files."""
        openvino = _openvino()
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            onnx = Path(folder) / "network.onnx"
            (write_int8 if dtype == "int8" else write_onnx)(subject, onnx)
            model = openvino.convert_model(str(onnx))
            openvino.save_model(model, str(path), compress_to_fp16=dtype == "float16")

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return OpenVINO's answers in float32."""
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = _openvino().compile_model(str(path), "CPU", config)
        return OpenvinoModel(compiled), "OpenVINO"


class OpenvinoModel(nn.Module):
    """A compiled model as a network without gradients."""

    def __init__(self, compiled: Any) -> None:
        super().__init__()
        self.compiled = compiled

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits.

        Raises:
            NoGradient: if somebody wants to differentiate.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise NoGradient("OpenVINO answers without gradients")
        images = np.ascontiguousarray(x.detach().cpu().numpy(), np.float32)
        return torch.from_numpy(np.array(self.compiled(images)[0])).to(x.device)

    def __deepcopy__(self, memo: object) -> "OpenvinoModel":
        """Return the network itself: it does not change."""
        return self


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            "this format needs OpenVINO; install it: pip install 'wiry[openvino,onnx]'"
        ) from error
    return openvino
