"""What every format of export has to do, and what it is given.

A format is one file in `formats`, a frozen dataclass registered as a "format". What is written is
asked afterwards through the file itself (`verify`), never through the network in memory.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.mask import Mask
from wiry.core.recipe import Recipe


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network that is to be written.

    Attributes:
        model: in eval mode; takes images in [0, 1] and returns logits.
        mask: which of its weights are there; they are zero in the network.
        input_shape: of one image.
        class_names: as far as they are known.
        recipe: how the network was made, if that is known.
        evaluation: record of this very network, if there is one.
        calibration: images that were not tested on, for formats that choose ranges by them.
    """

    model: nn.Module
    mask: Mask
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    recipe: Recipe | None
    evaluation: Mapping[str, Any] | None
    calibration: Float[Tensor, "n c h w"]


class Format(Protocol):
    """A way to write a network.

    Attributes:
        suffix: of the file; its first, if it writes several.
        dtypes: what weights can be rounded to; rounding makes another network.
        zeros: one sentence: what its zeros are good for in this format.
        loading: Python that opens the file and asks it, with NAME in place of the file's name.
    """

    suffix: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]
    zeros: ClassVar[str]
    loading: ClassVar[str]

    def write(self, subject: Subject, path: Path, dtype: str | None) -> None:
        """Write the network; the folder is private, so files may come in any order.

        Raises:
            UserError: if an extra is missing or the network cannot be written so.
        """
        ...

    def open(self, subject: Subject, path: Path) -> tuple[nn.Module, str]:
        """Return what the file answers, as a network, and what answers."""
        ...
