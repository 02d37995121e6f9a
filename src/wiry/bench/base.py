"""What an engine is: it writes a network as the file that one would ship, and opens that file.

An engine is registered with `@registry("engine").register(name)` in a file of its own in `engines/`
(or a plugin's), which is the only one to import the package behind it. Nothing is timed here.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from wiry.core.errors import UserError

if TYPE_CHECKING:
    from wiry.bench.subject import Subject

Numbers = np.ndarray[Any, np.dtype[np.float32]]
Answer = Callable[[Numbers], Numbers]
"""From a batch of images (n, c, h, w) in [0, 1] to logits (n, classes)."""


class Engine(Protocol):
    """A way to run a network.

    Attributes:
        exact: whether answers are the network's own up to rounding of float32. Else the engine runs
            another function, whose accuracies are its own.
        maintained_dense: whether it is a maintained engine for dense float32 networks: the fastest
            of those is what others are measured against.
    """

    exact: bool
    maintained_dense: bool

    def write(self, subject: "Subject", folder: Path) -> Path:
        """Write the file that would be shipped.

        Raises:
            UserError: if a package is missing or the network cannot be run like this.
        """
        ...

    def open(
        self, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
    ) -> Answer:
        """Open a file that `write` wrote, for batches of one size.

        Raises:
            UserError: if a package is missing or it refuses the file.
        """
        ...


def package(name: str, extra: str) -> Any:
    """Return an optional package.

    Raises:
        UserError: if it is not installed, with what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise UserError(f"{top} is not installed: pip install 'wiry[{extra}]'") from error
