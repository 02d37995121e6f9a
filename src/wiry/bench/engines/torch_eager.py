"""PyTorch as most people run it."""

import dataclasses
from pathlib import Path

import torch

from wiry.bench.base import Answer, Numbers
from wiry.bench.subject import Subject
from wiry.core.errors import UserError
from wiry.core.registry import registry


@registry("engine").register("torch")
@dataclasses.dataclass(frozen=True)
class TorchEager:
    """PyTorch, layer by layer, float32."""

    exact = True
    maintained_dense = False

    def write(self, subject: Subject, folder: Path) -> Path:
        """Write the module as torch pickles it."""
        return write_module(subject, folder)

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Unpickle the module."""
        model = read_module(path)
        return asked(lambda images: model(images), num_threads)


def write_module(subject: Subject, folder: Path) -> Path:
    """Write a network as one file of torch."""
    path = folder / "network.pt"
    try:
        torch.save(subject.model, path)
    except Exception as error:  # whatever somebody's module makes pickle raise
        text = f"torch cannot save {type(subject.model).__name__}: {error}"
        raise UserError(text) from error
    return path


def read_module(path: Path) -> torch.nn.Module:
    """Read what `write_module` wrote a moment ago: a file of ours, so unpickled freely."""
    return torch.load(path, weights_only=False).eval()


def asked(model: object, num_threads: int) -> Answer:
    """Return a module as a function of numpy arrays that runs in a number of torch's threads."""

    def answer(images: Numbers) -> Numbers:
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()  # type: ignore[operator] # a module

    return answer
