"""Networks in a `.pt2` file, as `torch.export.save` writes them: a program with its weights.

A program is code. What would be unpickled freely is refused here, but the program itself runs when
it is loaded and asked: open only files whose maker you trust.
"""

import copy
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.export.outside import in_batches_of

_SAVE = "torch.export.save(torch.export.export(model.eval(), (images,)), 'net.pt2')"
_TRAINING = {  # operators with a flag "training", and where it is among the arguments
    "aten.batch_norm.default": 5,
    "aten.dropout.default": 2,
    "aten._native_batch_norm_legit.default": 5,
    "aten.native_dropout.default": 2,
}


class Program(nn.Module):
    """An exported program as a network: differentiable, in the one mode it was exported in.

    Where it was exported for batches of one size, batches are cut and filled up.

    Args:
        network: the program's module.
        num_images: size of its batches; None: any.
    """

    def __init__(self, network: nn.Module, num_images: int | None) -> None:
        super().__init__()
        self.network, self.num_images = network, num_images
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> "Program":
        """Do nothing: a program has no modes."""
        return self

    def forward(self, x: Float[Tensor, "n c h w"]) -> Any:
        """Return what the program returns."""
        if self.num_images is None:
            return self.network(x)
        return in_batches_of(self.network, x, self.num_images)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Program":
        """Return a copy; copying a program warns of something that its user cannot change."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return Program(copy.deepcopy(self.network, memo), self.num_images)


def load_program(path: Path, device: str = "cpu") -> Program:
    """Return the network in a `.pt2` file.

    This runs the program that the file holds. A file that could not be read without unpickling
    freely, one that was compiled, and one that was exported in training mode are refused.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats and plans, for torch's developers
            program = torch.export.load(path)
            if torch.device(device).type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            network = program.module()
    except Exception as error:  # whatever a damaged file makes the reader raise
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path} cannot be loaded by torch {torch.__version__}: {type(error).__name__}: {text}"
        ) from error
    _check_mode(path, program)
    return Program(network, _batch_of(path, program))


def _check_archive(path: Path) -> None:
    """Refuse what would be unpickled without limits, or is machine code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/data/aotinductor/" in name for name in names):
                raise UserError(
                    f"{path} is compiled, so it has no gradients; save the program itself: {_SAVE}"
                )
            suspects = [name for name in names if name.endswith(".pt")]
            for config in (name for name in names if name.endswith("_config.json")):
                suspects += _pickled(config, json.loads(archive.read(config)))
            for name in suspects:
                _check_plain(path, name, archive.read(name))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or not a program; save one: {_SAVE}") from error


def _pickled(config: str, content: dict[str, Any]) -> list[str]:
    """Return the members of the archive that a list of its tensors says are pickled."""
    folder = config.rpartition("/")[0]
    rows = content["config"].values()
    return [f"{folder}/{row['path_name']}" for row in rows if row.get("use_pickle")]


def _check_plain(path: Path, name: str, content: bytes) -> None:
    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # whatever the reader raises
        raise UserError(
            f"{path} holds {name}, which cannot be read without running code that is in it. Only "
            f"plain programs are opened: {_SAVE}"
        ) from error


def _check_mode(path: Path, program: Any) -> None:
    for node in program.graph.nodes:
        place = _TRAINING.get(str(node.target))
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise UserError(f"{path} was exported in training mode; export again: {_SAVE}")


def _batch_of(path: Path, program: Any) -> int | None:
    """Return the size of the batches that a program takes, None for any."""
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1:
        raise UserError(f"{path} takes {len(inputs)} inputs; it must take images and nothing else")
    value = next(n for n in program.graph.nodes if n.name == inputs[0]).meta.get("val")
    if not isinstance(value, Tensor) or value.ndim != 4:
        raise UserError(f"{path} does not take images (n, c, h, w)")
    return value.shape[0] if isinstance(value.shape[0], int) else None
