"""An `.onnx` file run and quantised by ONNX Runtime; the one file here that imports it."""

import logging
from pathlib import Path
from typing import Any

from wiry.bench.base import Answer, Numbers, package
from wiry.bench.onnx_write import BATCH
from wiry.core.errors import UserError


def open_onnx(path: Path, *, batch_size: int, num_threads: int) -> Answer:
    """Return a session as a function, for batches of one size.

    Raises:
        UserError: if ONNX Runtime is not installed or refuses the file.
    """
    runtime = package("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3  # errors only: they come as exceptions too
    options.add_free_dimension_override_by_name(BATCH, batch_size)
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each has error classes of its own
        raise UserError(f"ONNX Runtime refuses it: {' '.join(str(error).split())[:300]}") from error
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def quantise(source: Path, path: Path, images: Numbers) -> Path:
    """Write an int8 copy of a float32 file: static ranges, one scale a channel of the weights.

    Args:
        images: what the ranges of the values between layers are chosen by.

    Raises:
        UserError: if ONNX Runtime is not installed or cannot.
    """
    tool = package("onnxruntime.quantization", "onnx")
    parts = iter([{"x": images[start : start + 32]} for start in range(0, len(images), 32)])

    class Reader(tool.CalibrationDataReader):  # type: ignore[name-defined] # known when it is there
        def get_next(self) -> Any:
            return next(parts, None)

    level = logging.root.level
    try:
        logging.root.setLevel(logging.ERROR)  # it advises preparations that are done already
        tool.quantize_static(
            str(source),
            str(path),
            Reader(),
            quant_format=tool.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
        )
    except Exception as error:  # each has error classes of its own
        text = " ".join(str(error).split())[:300]
        raise UserError(f"ONNX Runtime cannot quantise it: {text}") from error
    finally:
        logging.root.setLevel(level)
    return path
