"""A `torch.export` program (`.pt2`): the network without its class, for torch alone."""

import dataclasses
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.export.artifact import Subject
from wiry.export.program import load_program

_LOADING = """\
import torch

model = torch.export.load("NAME").module()  # this runs the program in the file
logits = model(images)  # float32 (n, c, h, w) in [0, 1], any n"""


@registry("format").register("torch-export")
@dataclasses.dataclass(frozen=True)
class TorchExport:
    """A program of torch operators with its weights."""

    suffix: ClassVar = ".pt2"
    dtypes: ClassVar = ()
    zeros: ClassVar = "Zeros are stored and multiplied like other weights: neither small nor fast."
    loading: ClassVar = _LOADING

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Export for batches of any size and write the program."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch to its own developers
            torch.export.save(exported(subject), path)

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return the program that the file holds."""
        return load_program(path), "the program, run by torch"


def exported(subject: Subject) -> "torch.export.ExportedProgram":
    """Return the network as a program for batches of any size.

    Raises:
        UserError: with torch's reason, if it cannot be exported.
    """
    images = torch.rand(3, *subject.input_shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = ({0: torch.export.Dim.DYNAMIC},)
            return torch.export.export(subject.model, (images,), dynamic_shapes=batch)
    except Exception as error:  # whatever a network's own code raises when it is exported
        fault = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"torch cannot export the network: {fault}") from error
