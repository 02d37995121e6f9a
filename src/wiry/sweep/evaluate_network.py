"""Where an evaluation finds its network, whoever made it; its images are `evaluate_images`.

A network is a run's stage, a bundle, a file (`.wiry`, `.pt2`, `.onnx`), or what somebody's function
builds.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from wiry.core.errors import UserError
from wiry.core.files import checksum
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe, Stage, expand
from wiry.core.recipe_file import parse_recipe
from wiry.evaluation.fingerprint import fingerprint
from wiry.export.load import load
from wiry.export.outside import Normalized, build_outside, nonzeros, settle_masks_
from wiry.export.sparse_file import load_mask
from wiry.export.sparse_read import read_sparse
from wiry.export.weights import load_weights_
from wiry.sweep.target import Target, find_target

_KINDS = (
    "a run directory, a bundle (`best`), a .wiry, .pt2 or .onnx file; weights alone need "
    "--model package.module:function --weights FILE"
)
_FILES = (".wiry", ".pt2", ".onnx")


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
        recipe: how it was made, if that is known.
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
    recipe: Recipe | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage that trained it, if that is known."""
        if self.trained is not None:
            return self.trained.stage
        return expand(self.recipe)[-1] if self.recipe is not None else None


def open_network(source: Source, device: str) -> Network:
    """Open a network and put it on a device.

    Raises:
        UserError: if it is not there, damaged, or options do not fit it.
    """
    source.check()
    path = source.target
    if source.place is not None or (path is not None and path.suffix in _FILES):
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
    mask = found.mask.to(device)
    return Network(found.stage.name, model, mask, trained=found, recipe=found.recipe)


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
    mask, recipe = nonzeros(model), None
    if source.target is not None and source.target.suffix == ".wiry":
        mask, recipe = load_mask(source.target).to(device) or mask, recipe_of(source.target)
    facts = {"source": source, "identity": identity, "remarks": tuple(remarks), "recipe": recipe}
    return Network(name, model, mask, black_box, **facts)


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
    if path.suffix == ".wiry":
        opened: Any = load(path)
        return opened, checksum(path), _plain(path.stem)
    if path.suffix == ".onnx":
        from wiry.export.onnx_model import load_onnx

        opened = load_onnx(path)
    else:
        from wiry.export.program import load_program

        opened = load_program(path, device)
    if opened.num_images is not None:
        remarks.append(
            f"{path} takes batches of {opened.num_images} only; exported with a dynamic batch "
            "dimension it is faster"
        )
    return opened, checksum(path), _plain(path.stem)


def recipe_of(path: Path) -> Recipe | None:
    """Return the recipe in a `.wiry` file; None if there is none that this wiry understands."""
    data = read_sparse(path).facts["recipe"]
    try:
        return None if data is None else parse_recipe(data, import_plugins=False)
    except UserError:
        return None


def _plain(text: str) -> str:
    """Return text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:60] or "network"
