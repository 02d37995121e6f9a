"""Networks in an `.onnx` file, run by ONNX Runtime: answers, no gradients. Extra `wiry[onnx]`.

The only file that imports `onnx` and `onnxruntime`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import NoGradient, UserError
from wiry.export.outside import in_batches_of

_WEIGHTED = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}


class OnnxModel(nn.Module):
    """A black box: images in, logits out. Weights are there to be counted only.

    Args:
        path: the file.
        session: the ONNX Runtime session that answers.
        weights: weights of convolutions and linear layers by their names in the file.
    """

    def __init__(self, path: Path, session: Any, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.path, self.session = path, session
        self.input = session.get_inputs()[0]
        size = self.input.shape[0]
        self.num_images = size if isinstance(size, int) else None
        self.weights = nn.Module()
        for name, weight in weights.items():
            key = name.replace(".", "/")  # a name in a module has no dots
            key = f"{key}_" if hasattr(self.weights, key) else key
            self.weights.register_parameter(key, nn.Parameter(weight, requires_grad=False))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits.

        Raises:
            NoGradient: if somebody wants to differentiate.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise NoGradient(
                f"{self.path} answers without gradients: only black-box attacks and measures can "
                "be used on it"
            )
        if self.num_images is None:
            return self._ask(x)
        return in_batches_of(self._ask, x, self.num_images)

    def _ask(self, x: Tensor) -> Tensor:
        kind = _KINDS[self.input.type]
        images = np.ascontiguousarray(x.detach().cpu().numpy().astype(kind))
        found = self.session.run([self.session.get_outputs()[0].name], {self.input.name: images})[0]
        return torch.from_numpy(np.array(found)).to(x.device).float()

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModel":
        """Return the network itself: it does not change, and sessions cannot be copied."""
        return self


_KINDS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def load_onnx(path: Path) -> OnnxModel:
    """Return the network in an `.onnx` file.

    Raises:
        UserError: if the extra is not installed, the file cannot be read, or it takes no images.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} needs ONNX Runtime; install it: pip install 'wiry[onnx]'"
        ) from error
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only: they come as exceptions too
    try:
        graph = onnx.load(str(path)).graph
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # each has error classes of its own
        text = " ".join(str(error).split())[:300]
        raise UserError(f"{path} cannot be loaded by ONNX Runtime: {text}") from error
    _check_inputs(path, session)
    return OnnxModel(path, session, _weights(graph, onnx.numpy_helper.to_array))


def _check_inputs(path: Path, session: Any) -> None:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise UserError(f"{path} takes {len(inputs)} inputs; it must take images and nothing else")
    if len(inputs[0].shape) != 4 or inputs[0].type not in _KINDS:
        raise UserError(
            f"{path} takes {inputs[0].type} of shape {inputs[0].shape}, not images (n, c, h, w) as "
            "floating-point numbers"
        )


def _weights(graph: Any, to_array: Any) -> dict[str, Tensor]:
    """Return the weights of a graph, output units first."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    found = {}
    for node in graph.node:
        for place in _WEIGHTED.get(node.op_type, ()):
            name = node.input[place]
            if name in tensors and len(tensors[name].dims) >= 2:
                weight = np.array(to_array(tensors[name]), dtype=np.float32)
                rows_first = node.op_type.startswith("Conv") or _is_transposed(node)
                found[name] = torch.from_numpy(weight if rows_first else weight.T.copy())
    return found


def _is_transposed(node: Any) -> bool:
    return any(a.name == "transB" and a.i == 1 for a in node.attribute)
