"""The job behind `wiry evaluate`: from arguments to a record, a comparison and a card on disk.

Which network and which images is `evaluate_network`; how they are judged is the evaluation room.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.core.files import write_json
from wiry.core.run import provenance
from wiry.evaluation.progress import Progress
from wiry.evaluation.protocol_cards import Card, make_card
from wiry.evaluation.protocols import Protocol, find_protocol, parse_card
from wiry.evaluation.record import run_evaluation
from wiry.export.outside import check_answers
from wiry.sweep.evaluate_against import compare_two
from wiry.sweep.evaluate_images import Images, find_images, folder_of
from wiry.sweep.evaluate_network import Network, Source, open_network
from wiry.sweep.evaluate_task import (
    EvaluateOptions,
    Task,
    check_black_box,
    name_of,
    ruled_by,
    task_of,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What an evaluation left.

    Attributes:
        network: the network that was judged.
        record: as it is on disk.
        path: of the record.
        root: what a page can be made of: the run, or the folder of the evaluations; None: nothing.
        against: comparison with a second network, if there is one.
        card: of the protocol, if there is one.
        card_path: where it is.
        remarks: sentences for the user.
    """

    network: Network
    record: dict[str, Any]
    path: Path
    root: Path | None
    against: dict[str, Any] | None
    card: Card | None
    card_path: Path | None
    remarks: tuple[str, ...]


def run_evaluate(options: EvaluateOptions, progress: Progress | None = None) -> Outcome:
    """Judge a network, or read what was found before, and write what a protocol asks for.

    Raises:
        UserError: for arguments that do not fit together, the network or the images.
    """
    protocol = find_protocol(options.protocol) if options.protocol is not None else None
    given = _card_fields(options, protocol)
    options = options if protocol is None else ruled_by(options, protocol)
    network = open_network(options.source, options.device)
    if network.trained is not None and options.out is not None:
        raise UserError("--out is for networks from outside; others keep evaluations beside them")
    task = task_of(options, network, protocol)
    data = _data(options, network, protocol)
    images = find_images(network, data, options.split, options.num_samples)
    _check_fit(options, network, images)
    other = _open_other(options, task, images) if options.against is not None else None
    seed = _seed(options, network)
    record, path = _judge(options, task, network, images, seed, progress)
    against = None
    if other is not None:
        alone = dataclasses.replace(task, measures=[])
        judged = (other, *_judge(options, alone, other, images, seed, progress))
        against = compare_two((network, record, path), judged, images, options, task, seed)
    card, card_path = None, None
    if protocol is not None:
        card = make_card(protocol, record, given, images.dataset)
        card_path = _card_path(network, path, protocol)
        write_json(card_path, card.content)
    root = path.parent if network.trained is None else network.trained.root
    return Outcome(network, record, path, root, against, card, card_path, network.remarks)


def _judge(
    options: EvaluateOptions,
    task: Task,
    network: Network,
    images: Images,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, Any], Path]:
    """Return a network's record and where it is."""
    name = name_of(options, task)
    folder = folder_of(network, images, [name, seed], options.out or Path("runs"))
    if network.trained is None:
        name = "evaluation"  # alone in its folder
        write_json(folder / "target.json", _description(options, network, images, seed))
    record = run_evaluation(
        network.model,
        network.mask,
        images.x,
        images.y,
        task.attacks,
        split=images.split,
        class_names=images.class_names,
        input_shape=images.input_shape,
        seed=seed,
        folder=folder,
        name=name,
        cascade=task.cascade,
        screened=task.screened,
        measures=task.measures,
        batch_size=options.batch_size,
        skip_certified=options.skip_certified,
        claim=options.claim,
        progress=progress,
    )
    return record, folder / f"{name}.json"


def _open_other(options: EvaluateOptions, task: Task, images: Images) -> Network:
    assert options.against is not None
    try:
        other = open_network(Source(options.against), options.device)
        if other.black_box:
            check_black_box(options.against, task.attacks)
        check_answers(other.model, images.x[:2])
    except UserError as error:
        raise UserError(f"--against {options.against}: {error}") from error
    return other


def _card_path(network: Network, path: Path, protocol: Protocol) -> Path:
    if network.trained is None:
        return path.parent / f"{protocol.name}.json"
    return path.parent / "cards" / f"{path.stem}-{protocol.name}.json"  # others are evaluations


def _check_fit(options: EvaluateOptions, network: Network, images: Images) -> None:
    channels, num_means = images.input_shape[0], len(options.source.mean)
    if num_means not in (0, channels):
        raise UserError(
            f"--mean and --std have {num_means} numbers, but images have {channels} channels"
        )
    check_answers(network.model, images.x[:2])


def _seed(options: EvaluateOptions, network: Network) -> int:
    if options.seed is not None:
        return options.seed
    return network.recipe.seed if network.recipe is not None else 0


def _data(
    options: EvaluateOptions, network: Network, protocol: Protocol | None
) -> Mapping[str, Any] | Path | None:
    if options.data is None and protocol is not None and network.recipe is None:
        return {"name": protocol.datasets[0]}
    return options.data


def _card_fields(options: EvaluateOptions, protocol: Protocol | None) -> dict[str, Any]:
    if protocol is None and options.card:
        raise UserError("--card goes with --protocol")
    return parse_card(protocol, options.card) if protocol is not None else {}


def _description(
    options: EvaluateOptions, network: Network, images: Images, seed: int
) -> dict[str, Any]:
    """Return what was judged, for the folder of a network from outside."""
    source = network.source
    assert source is not None
    return {
        "network": str(source.target or source.place),
        "arguments": dict(source.arguments),
        "weights": str(source.weights) if source.weights is not None else None,
        "mean": list(source.mean),
        "std": list(source.std),
        "class": type(network.model).__name__,
        "identity": network.identity,
        "dataset": images.dataset,
        "data": images.identity,
        "remarks": list(network.remarks),
        "provenance": provenance(seed, options.device),
    }
