"""Images and labels that somebody brings along in an .npz file: read, checked, put into one layout.

Not a data set of the registry: there is one split, and nothing is trained on it.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wiry.core.errors import UserError

_CHANNELS = (1, 3, 4)  # what the last dimension holds where it is the channels
_ADVICE = "Store x as (n, c, h, w) or (n, h, w, c), uint8 or float in [0, 1], and y as integers"


def load_arrays(path: Path) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """Return the images (float32 in [0, 1]) and labels of an .npz with arrays `x` and `y`.

    Images are (n, c, h, w), or (n, h, w, c) if the last dimension is 1, 3 or 4 and the second is
    not, or (n, h, w) for one channel; uint8 is divided by 255. Nothing is unpickled.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    arrays = _read(path)
    if missing := [key for key in ("x", "y") if key not in arrays]:
        found = ", ".join(sorted(arrays)) or "no array"
        raise UserError(f"{path} has no array {missing[0]!r}, it has {found}. {_ADVICE}")
    x, y = _images(path, arrays["x"]), _labels(path, arrays["y"])
    if not len(x) or len(x) != len(y):
        raise UserError(f"{path} has {len(x)} images and {len(y)} labels; each image needs a label")
    return x, y


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise UserError(f"{path} holds one array; use np.savez(file, x=images, y=labels)")
            with found:
                return {key: found[key] for key in found.files}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except UserError:
        raise
    except _UNREADABLE as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a readable .npz of plain arrays: {text}") from error


_UNREADABLE = (ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, MemoryError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)


def _images(path: Path, x: np.ndarray) -> Tensor:
    shape = x.shape
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or 0 in shape[1:]:
        raise UserError(f"{path}: x has shape {shape}, which is no batch of images. {_ADVICE}")
    if x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS:
        x = x.transpose(0, 3, 1, 2)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise UserError(f"{path}: x is of type {x.dtype}. {_ADVICE}")
    if x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x)).float().div_(255)
    images = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        low, high = float(images.min()), float(images.max())
        raise UserError(
            f"{path}: pixels run from {low:g} to {high:g}, they must be in [0, 1]. If the images "
            "are normalised, store them without, and give --mean and --std"
        )
    return images


def _labels(path: Path, y: np.ndarray) -> Tensor:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        what = f"y has shape {y.shape} and type {y.dtype}"
        raise UserError(f"{path}: {what}; it must hold one class number an image, from 0")
    if len(y) and int(y.min()) < 0:
        raise UserError(f"{path}: y has the label {int(y.min())}; classes are numbered from 0")
    return torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64))
