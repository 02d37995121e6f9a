"""Images whose labels a network guessed, beside a labelled data set: semi-supervised training.

Here are the data set, its file formats and the function that labels images. How batches are put
together is for `loader`. An image takes 12 KiB of memory (32x32, three channels): the published
half million takes 6 GB.
"""

import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from pydantic import Field
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.registry import component, registry
from wiry.core.tensors import load_tensors, save_tensors
from wiry.data.base import Dataset
from wiry.data.locate import find
from wiry.data.restricted_pickle import load_arrays

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]

FOLDER = (
    "pseudo-labelled"  # below WIRY_DATA, where files without a path of their own are looked for
)
PICKLES = (".pickle", ".pkl")


@registry("dataset").register("pseudo-labelled")
def pseudo_labelled(
    *,
    labelled: component("dataset"),
    file: str,
    share: Share = 0.5,
    num_pseudo: Count | None = None,
    sha256: str | None = None,
) -> Dataset:
    """A labelled data set whose training batches hold a share of images with guessed labels.

    An epoch is one pass over the labelled images. Validation and test split, pixel statistics and
    the order of the labelled images are those of the labelled set alone.

    Source: Carmon et al. 2019 (robust self-training): half of each batch from 500,000 images of
    Tiny Images, labelled by a network trained on CIFAR-10. Differs: pseudo-labelled images are
    drawn in shuffled passes over the epochs, theirs with replacement.

    Args:
        labelled: the labelled data set.
        file: path of the pseudo-labelled images, or a name in the folder "pseudo-labelled" of the
            data folder: `.pickle` of {"data": uint8 (n, h, w, c), "extrapolated_targets": labels}
            as published by Carmon et al., `.npz` or `.safetensors` with x and y.
        share: share of each batch that is pseudo-labelled.
        num_pseudo: use only the first so many pseudo-labelled images; all if left out.
        sha256: checksum that the file must have, in hex; it makes the recipe say which labels.

    Raises:
        ValueError: if the file is missing, damaged, or does not fit the labelled images.
    """
    if labelled.num_extra:
        raise ValueError("labelled must be a data set without pseudo-labelled images of its own")
    path = _located(file)
    if sha256 is not None:
        _check_sha256(path, sha256)
    images, labels = _read(path)
    if labels is None:
        raise UserError(f"{path} has no labels; make them with `wiry pseudo-label`")
    if num_pseudo is not None and num_pseudo > len(images):
        raise ValueError(f"num_pseudo is {num_pseudo}, but {path} has {len(images)} images")
    images, labels = images[:num_pseudo], labels[:num_pseudo]
    x = _channels_first(images, labelled.input_shape, path)
    y = _as_labels(labels, labelled.num_classes, path)
    if len(x) != len(y) or len(x) == 0:
        raise UserError(f"{path} has {len(x)} images and {len(y)} labels; it needs one an image")
    return dataclasses.replace(
        labelled,
        train_x=_joined(labelled.train_x, x),
        train_y=torch.cat([labelled.train_y, y]),
        num_extra=len(x),
        extra_share=share,
    )


def read_images(path: Path, input_shape: tuple[int, int, int]) -> Shaped[Tensor, "n c h w"]:
    """Return the images of a file in one of the formats above, as uint8 or float32; no labels.

    Raises:
        UserError: if the file is missing, damaged, or its images have another size.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a .npz, .safetensors or .pickle file")
    return _channels_first(_read(path)[0], input_shape, path)


@torch.no_grad()
def pseudo_label(
    model: nn.Module, images: Shaped[Tensor, "n c h w"], *, batch_size: int = 500
) -> Int[Tensor, " n"]:
    """Return the class that a trained network gives each image, on the CPU.

    The network is asked in eval mode and left in the mode it was in.

    Args:
        images: uint8, or float32 in [0, 1].
        batch_size: images that are asked about at once; changes no label.

    Source: Carmon et al. 2019, section 4 (hard labels).
    """
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        parts = [
            model(_as_floats(part.to(device))).argmax(1).cpu() for part in images.split(batch_size)
        ]
    finally:
        for module, training in modes:
            module.training = training
    return torch.cat(parts)


def save_pseudo_labelled(
    path: Path, images: Shaped[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> None:
    """Write images, as they are, and their labels to a safetensors file that the data set reads."""
    assert len(images) == len(labels), "one label an image"
    save_tensors(path, {"x": images, "y": labels})


def _located(file: str) -> Path:
    path = Path(file).expanduser()
    if path.is_file():
        return path
    found = find(FOLDER, file)
    if found is None:
        raise UserError(
            f"{file} is neither a file nor a name in the folder {FOLDER!r} of the data folder "
            "(WIRY_DATA). Make it with `wiry pseudo-label`, or download it."
        )
    return found


def _check_sha256(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise UserError(
            f"{path} has the SHA-256 {found}, but the recipe wants {expected}; "
            "it is another version of the file"
        )


def _read(path: Path) -> tuple[Tensor, Tensor | None]:
    """Return images as they are stored, and labels if there are any."""
    if path.suffix in PICKLES:
        arrays, names = load_arrays(path), ("data", "extrapolated_targets")
    elif path.suffix == ".npz":
        arrays, names = _load_npz(path), ("x", "y")
    elif path.suffix == ".safetensors":
        found = load_tensors(path)
        return _named(found, "x", path), found.get("y")
    else:
        raise UserError(
            f"{path}: the ending {path.suffix!r} is unknown; known: .pickle, .npz, .safetensors"
        )
    images, labels = _named(arrays, names[0], path), arrays.get(names[1])
    return _as_tensor(images, path), None if labels is None else _as_tensor(labels, path)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("x", "y") if name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable .npz file of plain numbers: {error}") from None


def _named(found: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in found:
        raise UserError(f"{path} has no {name!r}; found: {', '.join(sorted(found)) or 'nothing'}")
    return found[name]


def _as_tensor(array: np.ndarray, path: Path) -> Tensor:
    try:
        # a copy: what lies in a file's bytes is neither writable nor in this machine's byte order
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise UserError(f"{path} holds numbers of type {array.dtype}, which is not read") from None


def _channels_first(x: Tensor, shape: tuple[int, int, int], path: Path) -> Tensor:
    """Return images as (n, c, h, w), whichever way round they are stored; grey may lack c."""
    channels, height, width = shape
    if x.dtype not in (torch.uint8, torch.float32):
        raise UserError(f"{path}: images must be uint8 or float32, found {x.dtype}")
    if x.shape[1:] == shape:
        return x
    if x.shape[1:] == (height, width, channels):
        return x.permute(0, 3, 1, 2)
    if channels == 1 and x.shape[1:] == (height, width):
        return x.unsqueeze(1)
    raise UserError(
        f"{path}: images of shape {tuple(x.shape[1:])} do not fit the labelled ones, {shape} "
        "(channels, height, width)"
    )


def _as_labels(y: Tensor, num_classes: int, path: Path) -> Tensor:
    if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
        raise UserError(f"{path}: labels must be integers (n,), found {y.dtype} {tuple(y.shape)}")
    y = y.long()
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
        raise UserError(
            f"{path}: labels are {int(y.min())} to {int(y.max())}, but there are {num_classes} "
            "classes"
        )
    return y


def _as_floats(x: Tensor) -> Tensor:
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def _joined(labelled: Tensor, extra: Tensor) -> Tensor:
    """Return both sets of images in one tensor, without a second copy of the large one."""
    whole = torch.empty(len(labelled) + len(extra), *labelled.shape[1:])
    whole[: len(labelled)] = labelled
    part = whole[len(labelled) :]
    part.copy_(extra)
    if extra.dtype == torch.uint8:
        part.div_(255)
    return whole
