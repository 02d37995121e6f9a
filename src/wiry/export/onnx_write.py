"""Write networks as ONNX, in float32 or in int8. Extra `wiry[onnx]`.

int8 is static: every channel of a weight and every activation has a scale of its own, chosen on
images that are not tested on. Reading is `onnx_model`.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.errors import UserError
from wiry.export.artifact import Subject
from wiry.export.formats.torch_export import exported

_OPSET = 18


def write_onnx(subject: Subject, path: Path) -> None:
    """Write a network for batches of any size; input `images`, output `logits`.

    Raises:
        UserError: if the extra is missing or torch cannot write an operator as ONNX.
    """
    program = exported(subject)
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch writes with
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}; install it: pip install 'wiry[onnx]'") from error
    try:
        with _quiet():
            batch = torch.export.Dim("batch")
            written = torch.onnx.export(
                program.module(),
                (torch.rand(3, *subject.input_shape),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: batch},),
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
            )
            assert written is not None
            written.save(str(path), external_data=False)
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the exporter's and the checker's own classes
        fault = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"the network cannot be written as ONNX: {fault}") from error


def write_int8(subject: Subject, path: Path) -> None:
    """Write a network whose convolutions and linear layers reckon with 8-bit integers.

    Raises:
        UserError: as `write_onnx`.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain, ready = Path(folder) / "plain.onnx", Path(folder) / "ready.onnx"
        write_onnx(subject, plain)
        try:
            from onnxruntime import quantization
            from onnxruntime.quantization.shape_inference import quant_pre_process
        except ImportError as error:
            raise UserError(
                f"int8 needs {error.name}; install it: pip install 'wiry[onnx]'"
            ) from error
        with _quiet():
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(ready),
                str(path),
                _reader(subject.calibration),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )


def _reader(images: Float[Tensor, "n c h w"]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(images.split(50))

        def get_next(self) -> dict[str, Any] | None:  # type: ignore[override] # None ends it
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters tell their own developers away from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
