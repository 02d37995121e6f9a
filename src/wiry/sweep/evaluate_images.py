"""Which images a network is judged on, and where what is found goes."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from wiry.core.errors import UserError
from wiry.core.files import checksum
from wiry.core.registry import registry
from wiry.data.arrays import load_arrays
from wiry.data.base import build_dataset
from wiry.sweep.evaluate_network import Network
from wiry.train.prepare import dataset_of


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """What a network is judged on.

    Attributes:
        dataset: name of the data set, or of the file.
        split: part of it.
        class_names: as far as they are known.
        identity: plain data that says which images these are.
    """

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    dataset: str
    split: str
    class_names: tuple[str, ...]
    identity: Any

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width


def find_images(
    network: Network,
    data: Mapping[str, Any] | Path | None,
    split: str,
    num_samples: int | None,
) -> Images:
    """Return the first images of a split.

    Args:
        network: a recipe says what its data are.
        data: spec of a data set or path of an .npz, for networks that no run or bundle holds.

    Raises:
        UserError: if there are none, or two places to take them from.
    """
    if split not in ("test", "validation"):
        raise UserError(f"--split must be test or validation, got {split!r}")
    if network.trained is not None and data is not None:
        raise UserError("a network of wiry is judged on its recipe's data; leave --data out")
    if network.recipe is not None and data is None:
        dataset, spec = dataset_of(network.recipe), network.recipe.data
    elif data is None:
        raise UserError("which images? --data NAME (see `wiry list dataset`) or --data FILE.npz")
    elif isinstance(data, Path):
        if split != "test":
            raise UserError("an .npz has one split; leave --split out")
        x, y = load_arrays(data)
        return Images(x[:num_samples], y[:num_samples], data.stem, split, (), checksum(data))
    else:
        spec = registry("dataset").normalize(data)
        dataset = build_dataset(spec)
    x, y = dataset.split(split)  # type: ignore[arg-type] # checked above
    x, y = x[:num_samples], y[:num_samples]
    return Images(x, y, dataset.name, split, dataset.class_names, spec)


def folder_of(network: Network, images: Images, question: Any, out: Path) -> Path:
    """Return where an evaluation goes: beside what wiry trained, else a folder of its own.

    Args:
        question: plain data that says what is asked besides network and images.
        out: folder of such folders.
    """
    if network.trained is not None:
        return network.trained.folder
    text = json.dumps([network.identity, images.identity, question], sort_keys=True)
    return out / f"evaluation-{network.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
