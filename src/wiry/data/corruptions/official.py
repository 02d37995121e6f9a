"""The published files of CIFAR-10-C: a folder of arrays, one a corruption, and the labels.

Source: Hendrycks and Dietterich 2019, https://zenodo.org/records/2535967. `<name>.npy` has the test
images in their order, uint8 (n, height, width, 3), five times: at severity 1, then 2 and so on.
`labels.npy` has as many labels. Sets of the same make (CIFAR-100-C) are read as well. Files are
mapped and not loaded; nothing is unpickled.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wiry.core.errors import UserError
from wiry.data.corruptions import CORRUPTIONS, SEVERITIES

LABELS = "labels.npy"


@dataclasses.dataclass(frozen=True, eq=False)
class OfficialFiles:
    """Corrupted images as published.

    Attributes:
        folder: with `labels.npy` and a file a corruption.
        labels: true classes of the images, once.
    """

    folder: Path
    labels: Int[Tensor, " n"]

    def images(self, name: str, severity: int, start: int, stop: int) -> Float[Tensor, "m c h w"]:
        """Return the images from `start` to before `stop` at a severity, in [0, 1].

        Raises:
            UserError: if the file is missing, damaged or of another shape than the labels say.
        """
        levels = self._file(name)
        first = (severity - 1) * len(self.labels)
        part = np.array(levels[first + start : first + stop])
        return torch.from_numpy(part).permute(0, 3, 1, 2).float().div(255)

    def check(self, names: list[str], shape: tuple[int, ...]) -> None:
        """Check that the files of some corruptions are there and have images of this shape.

        Args:
            shape: channels, height and width of an image.

        Raises:
            UserError: naming the files that are missing, or the first that does not fit.
        """
        missing = [f"{name}.npy" for name in names if not (self.folder / f"{name}.npy").is_file()]
        if missing:
            raise UserError(f"{self.folder} has no {', '.join(missing)}")
        for name in names:
            height, width, channels = self._file(name).shape[1:]
            if (channels, height, width) != tuple(shape):
                raise UserError(
                    f"{self.folder / name}.npy has images of {channels} x {height} x {width}, "
                    f"and those of the evaluation are {' x '.join(map(str, shape))}"
                )

    def _file(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        levels = _mapped(path)
        num = len(SEVERITIES) * len(self.labels)
        if levels.dtype != np.uint8 or levels.ndim != 4 or len(levels) != num:
            raise UserError(
                f"{path} should be uint8 ({num}, height, width, channels), for {len(self.labels)} "
                f"images at {len(SEVERITIES)} severities; it is {levels.dtype} {levels.shape}"
            )
        return levels


def official_files(folder: str | Path) -> OfficialFiles:
    """Open a folder of published corruptions.

    Raises:
        UserError: if it is no folder, or its labels are missing, damaged or not five times the
            same.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is no folder; it should be that of CIFAR-10-C, with {LABELS} and files such "
            f"as {next(iter(CORRUPTIONS))}.npy. Without a folder wiry makes corruptions itself."
        )
    if not (folder / LABELS).is_file():
        raise UserError(f"{folder} has no {LABELS}")
    labels = _mapped(folder / LABELS)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(
            f"{folder / LABELS} should be one row of whole numbers; it is {labels.dtype} "
            f"{labels.shape}"
        )
    num, rest = divmod(len(labels), len(SEVERITIES))
    if rest or bool((labels.reshape(len(SEVERITIES), num) != labels[:num]).any()):
        raise UserError(
            f"{folder / LABELS} should hold the labels of the images {len(SEVERITIES)} times, once "
            f"a severity; its {len(labels)} labels do not repeat so"
        )
    return OfficialFiles(folder, torch.from_numpy(labels[:num].astype(np.int64)))


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged: {error}") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays and should hold one")
    return array
