"""A plain state dict in a safetensors file: for whoever has the network's class."""

import copy
import dataclasses
from pathlib import Path
from typing import ClassVar

from torch import nn

from wiry.core.registry import registry
from wiry.core.tensors import load_tensors, save_tensors
from wiry.export.artifact import Subject

_LOADING = """\
from safetensors.torch import load_file

model.load_state_dict(load_file("NAME"))  # a network of the same class
logits = model.eval()(images)  # float32 (n, c, h, w) in [0, 1]"""


@registry("format").register("safetensors")
@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """Dense tensors by their names in the network."""

    suffix: ClassVar = ".safetensors"
    dtypes: ClassVar = ()
    zeros: ClassVar = "Zeros are stored like other weights: neither smaller nor faster."
    loading: ClassVar = _LOADING

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Write the state."""
        save_tensors(path, dict(subject.model.state_dict()), {"format": "pt"})

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return a copy of the network with the file's tensors in it."""
        model = copy.deepcopy(subject.model)
        for tensor in model.state_dict().values():
            tensor.zero_()  # what the file does not hold must not answer
        model.load_state_dict(load_tensors(path))
        return model.eval(), "torch, with the file's tensors"
