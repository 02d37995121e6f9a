"""The job behind `wiry export`: from arguments to a file and its card on disk."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wiry.core.errors import UserError
from wiry.core.files import read_json
from wiry.core.recipe import expand
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.evaluation.fingerprint import fingerprint
from wiry.evaluation.presets import attacks_of
from wiry.evaluation.progress import Progress
from wiry.export.artifact import Subject
from wiry.export.outside import check_answers
from wiry.export.sparse_read import read_sparse
from wiry.export.verify import Images as Asked
from wiry.export.write import Order, write
from wiry.sweep.evaluate_images import Images, find_images
from wiry.sweep.evaluate_network import Network, Source, open_network
from wiry.sweep.threat import threat_of
from wiry.train.prepare import dataset_of

_NUM_CALIBRATION = 200
_ANY_EPS = 0.1  # so that a wrong attack is noticed where there is no budget too


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """The arguments of `wiry export`, parsed; None: not given.

    Attributes:
        data: spec of a data set or path of an .npz, for networks without a recipe.
        num_samples: images that the file is asked about.
        attack: what the file is put to.
        verify: ask the file at all.
    """

    source: Source
    order: Order
    data: Mapping[str, Any] | Path | None = None
    num_samples: int = 200
    attack: str = "screen"
    eps: float | None = None
    norm: str | None = None
    seed: int = 0
    verify: bool = True


def run_export(options: ExportOptions, progress: Progress | None = None) -> dict[str, Any]:
    """Write a file and its card, and return the card.

    Raises:
        UserError: for arguments that do not fit together, the network, the images, or a file that
            does not answer like the network.
    """
    registry("format").get(options.order.format)
    network = open_network(options.source, "cpu")
    if network.black_box:
        raise UserError(
            f"{options.source.target} is an exported file already; export the network it is from"
        )
    images = _images(options, network)
    check_answers(network.model, images.x[:2])
    subject = Subject(
        model=network.model.eval().requires_grad_(False),
        mask=network.mask,
        input_shape=images.input_shape,
        class_names=images.class_names,
        recipe=network.recipe,
        evaluation=_evaluation(network, options.source.target),
        calibration=_calibration(options, network, images),
    )
    asked = None
    if options.verify:
        asked = Asked(images.x, images.y, _attacks(options, network), options.seed)
    return write(
        subject, options.order, asked, name=network.name, seed=options.seed, progress=progress
    )


def _images(options: ExportOptions, network: Network) -> Images:
    try:
        return find_images(network, options.data, "test", options.num_samples)
    except UserError as error:
        if options.data is None and network.recipe is None:
            raise UserError(
                "the file is checked on images: --data NAME (see `wiry list dataset`) or "
                "--data FILE.npz of the network's test images"
            ) from error
        raise


def _attacks(options: ExportOptions, network: Network) -> tuple[Any, ...]:
    """Return the attacks: those asked for, on the budget that was last trained against."""
    stages = expand(network.recipe) if network.recipe is not None else ()
    threats = [threat_of(stage.objective) for stage in reversed(stages)]
    threat = next((one for one in threats if one.eps is not None), None)
    eps = options.eps if options.eps is not None or threat is None else threat.eps
    norm = options.norm or (threat.norm if threat is not None else "linf")
    found = attacks_of(options.attack, _ANY_EPS if eps is None else eps, norm)
    return () if eps is None else found


def _calibration(options: ExportOptions, network: Network, images: Images) -> Tensor:
    """Return images that are not tested on, to choose the ranges of integers with."""
    if options.order.dtype != "int8":
        return images.x[:0]
    if network.recipe is not None and options.data is None:
        x = dataset_of(network.recipe).split("train")[0]
    elif isinstance(options.data, Mapping):
        from wiry.data.base import build_dataset

        x = build_dataset(options.data).split("train")[0]
    else:
        raise UserError(
            "--dtype int8 chooses ranges on training images, which an .npz of test images does "
            "not have; name the data set: --data NAME"
        )
    order = torch.randperm(len(x), generator=stream(options.seed, "export", "calibration"))
    return x[order[:_NUM_CALIBRATION]]


def _evaluation(network: Network, path: Path | None) -> Mapping[str, Any] | None:
    """Return a record of the very network, if one is kept beside it or in it."""
    if network.trained is None:
        found = [read_sparse(path).facts["evaluation"]] if path and path.suffix == ".wiry" else []
    elif network.trained.root is None and path is not None:
        found = [read_json(path / "card.json").get("evaluation")]
    else:
        files = sorted(network.trained.folder.glob("*.json"))
        found = [read_json(file) for file in files]
    digest = fingerprint(network.model)
    known = [r for r in found if isinstance(r, dict) and r.get("weights_sha256") == digest]
    judged = [record for record in known if record.get("split") == "test"]
    return max(judged, key=_standing, default=None)


def _standing(record: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """Order records: attacked ones, by AutoAttack, on most images."""
    protocol = str(record.get("attack", ""))
    return record["robust_accuracy"] is not None, "AutoAttack" in protocol, record["num_samples"]


def default_output(source: Source, format_name: str, dtype: str | None) -> Path:
    """Return a file in the working directory, called as the network is."""
    target = registry("format").build({"name": format_name})
    if source.target is not None:
        path = source.target.resolve()
        named = path.parent if (path / "bundle.json").exists() else path
        name = named.name.removesuffix(named.suffix) if path.is_file() else named.name
    else:
        name = (source.place or "network").replace(":", "-").replace(".", "-")
    return Path(f"{name}{f'-{dtype}' if dtype else ''}{target.suffix}")
