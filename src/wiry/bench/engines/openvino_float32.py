"""OpenVINO on the dense network; the one file that imports it."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wiry.bench.base import Answer, Numbers, package
from wiry.core.errors import UserError
from wiry.core.registry import registry

if TYPE_CHECKING:
    from wiry.bench.subject import Subject


@registry("engine").register("openvino")
@dataclasses.dataclass(frozen=True)
class OpenVino:
    """OpenVINO, float32; zeros are multiplied like other weights."""

    exact = True
    maintained_dense = True

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write an `.onnx` file, which OpenVINO reads."""
        from wiry.bench.onnx_write import write_onnx

        package("openvino", "openvino")
        return write_onnx(subject, folder / "network.onnx")

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Compile the file for one shape."""
        openvino = package("openvino", "openvino")
        settings = {
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            network = core.read_model(str(path))
            network.reshape([batch_size, *input_shape])
            request = core.compile_model(network, "CPU", settings).create_infer_request()
        except Exception as error:  # each has error classes of its own
            text = " ".join(str(error).split())[:300]
            raise UserError(f"OpenVINO refuses it: {text}") from error

        def answer(images: Numbers) -> Numbers:
            request.infer([images], share_inputs=True)
            return request.get_output_tensor(0).data

        return answer
