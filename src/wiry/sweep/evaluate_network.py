"""Where an evaluation finds its network and its images, whoever made them.

A network is a run's stage, a bundle, a file (`.pt2`, `.onnx`), or what somebody's function builds.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.files import checksum
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.data.arrays import load_arrays
from wiry.data.base import build_dataset
from wiry.evaluation.fingerprint import fingerprint
from wiry.export.outside import Normalized, build_outside, nonzeros, settle_masks_
from wiry.export.weights import load_weights_
from wiry.sweep.target import Target, find_target
from wiry.train.prepare import dataset_of

_KINDS = (
    "a run directory, a bundle (`best`), a program (.pt2) or an .onnx file; weights alone need "
    "--model package.module:function --weights FILE"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a network is to be found, as the command line says it.

    Attributes:
        target: a run, a bundle or a file; None: `place` says it.
        stage: of a run.
        place: `package.module:function`.
        arguments: of the function.
        weights: file with its weights.
        mean: a number a channel, for a normalisation in front; empty: none.
        std: the same.
    """

    target: Path | None = None
    stage: str | None = None
    place: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Path | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def check(self) -> None:
        """Check that the parts fit together.

        Raises:
            UserError: naming the option that does not.
        """
        if (self.target is None) == (self.place is None):
            raise UserError(f"give one network: TARGET, which is {_KINDS}")
        if self.place is None and (self.weights is not None or self.arguments):
            option = "--weights" if self.weights is not None else "--model-args"
            raise UserError(f"{option} goes with --model package.module:function")
        if len(self.mean) != len(self.std):
            raise UserError("--mean and --std go together, with one number a channel each")


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network to be judged.

    Attributes:
        name: for tables and folders.
        model: takes images in [0, 1] and returns logits.
        mask: which of its weights are there.
        black_box: whether it answers without gradients.
        trained: the run's stage or bundle it is from, if wiry trained it.
        source: where it is from, if it did not.
        identity: digest of everything that decides its answers.
        remarks: what the user should know of how it was opened.
    """

    name: str
    model: nn.Module
    mask: Mask
    black_box: bool = False
    trained: Target | None = None
    source: Source | None = None
    identity: str = ""
    remarks: tuple[str, ...] = ()


def open_network(source: Source, device: str) -> Network:
    """Open a network and put it on a device.

    Raises:
        UserError: if it is not there, damaged, or options do not fit it.
    """
    source.check()
    path = source.target
    if source.place is not None or (path is not None and path.suffix in (".pt2", ".onnx")):
        if source.stage is not None:
            raise UserError("--stage is for run directories; leave it out")
        return _open_foreign(source, device)
    assert path is not None
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{str(path)!r} {what}; TARGET is {_KINDS}")
    if source.mean:
        raise UserError("the normalisation of a network of wiry is inside; leave --mean out")
    found = find_target(path, source.stage)
    model = found.model.to(device).eval()
    return Network(found.stage.name, model, found.mask.to(device), trained=found)


def _open_foreign(source: Source, device: str) -> Network:
    remarks: list[str] = []
    model, digest, name = _load(source, device, remarks)
    black_box = source.target is not None and source.target.suffix == ".onnx"
    if source.mean:
        model = Normalized(model, source.mean, source.std)
    if source.place is not None and source.weights is None:
        remarks.append(f"no --weights: judged with the weights that {source.place} returns")
    model = model.to(device).eval()
    identity = hashlib.sha256(f"{digest} {fingerprint(model)}".encode()).hexdigest()
    return Network(name, model, nonzeros(model), black_box, None, source, identity, tuple(remarks))


def _load(source: Source, device: str, remarks: list[str]) -> tuple[nn.Module, str, str]:
    """Return a network, a digest of what it is made of besides its weights, and a name."""
    if source.place is not None:
        model, digest = build_outside(source.place, source.arguments)
        if source.weights is not None:
            remarks += load_weights_(model, source.weights)
        if num_masks := settle_masks_(model):
            remarks.append(f"{num_masks} masks of torch.nn.utils.prune were put into the weights")
        words = [source.place, *(str(value) for value in source.arguments.values())]
        return model, digest, _plain("-".join(words))
    path = source.target
    assert path is not None
    if path.suffix == ".onnx":
        from wiry.export.onnx_model import load_onnx

        opened: Any = load_onnx(path)
    else:
        from wiry.export.program import load_program

        opened = load_program(path, device)
    if opened.num_images is not None:
        remarks.append(
            f"{path} takes batches of {opened.num_images} only; exported with a dynamic batch "
            "dimension it is faster"
        )
    return opened, checksum(path), _plain(path.stem)


def _plain(text: str) -> str:
    """Return text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:60] or "network"


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
    trained: Target | None,
    data: Mapping[str, Any] | Path | None,
    split: str,
    num_samples: int | None,
) -> Images:
    """Return the first images of a split.

    Args:
        trained: what wiry trained has its data in its recipe.
        data: spec of a data set or path of an .npz, for other networks.

    Raises:
        UserError: if there are none, or two places to take them from.
    """
    if split not in ("test", "validation"):
        raise UserError(f"--split must be test or validation, got {split!r}")
    if trained is not None:
        if data is not None:
            raise UserError("a network of wiry is judged on its recipe's data; leave --data out")
        dataset, spec = dataset_of(trained.recipe), trained.recipe.data
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
