"""The cards that public benchmarks want, filled in from the record of an evaluation.

Plain data: what the author alone knows stays empty and is listed, and so is every departure from
the benchmark's rules.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wiry.evaluation.protocols import (
    CIFAR10,
    PRUNING_BENCHMARK,
    ROBUSTBENCH,
    SHORT,
    SIZES,
    Protocol,
)

_ROUNDING = 0.5  # percent: counts of layers do not come out even
_OF_SIZE = ("num-samples",)  # says how much was measured, not whether it is right
_OPTIONAL = ("footnote", "structure", "normalization", "sparsity_rate", "number_forward_passes")


@dataclasses.dataclass(frozen=True)
class Card:
    """A card to be handed in.

    Attributes:
        content: plain data; None where only the author knows.
        missing: fields to be filled in -> what they are.
        departures: where the evaluation or the network is not what the benchmark asks for.
    """

    content: dict[str, Any]
    missing: dict[str, str]
    departures: tuple[str, ...]


def make_card(
    protocol: Protocol, record: Mapping[str, Any], given: Mapping[str, Any], dataset: str
) -> Card:
    """Fill in a card from the record of an evaluation.

    Args:
        record: of AutoAttack (standard) with the protocol's radius.
        given: what the author says, from `parse_card`.
        dataset: name of the data set.
    """
    fill = _robustbench if protocol is ROBUSTBENCH else _pruning_benchmark
    content, departures = fill(record, given, dataset)
    departures = (*_departures(protocol, record, dataset), *departures)
    missing = {
        key: what
        for key, what in protocol.asked.items()
        if content.get(key) is None and key not in _OPTIONAL
    }
    return Card(content, missing, departures)


def _departures(protocol: Protocol, record: Mapping[str, Any], dataset: str) -> tuple[str, ...]:
    found = []
    if record["split"] != "test" or record["num_samples"] != protocol.num_samples:
        count = f"{record['num_samples']:,}"
        found.append(
            f"Evaluated on the first {count} {record['split']} images, not on "
            f"{protocol.num_samples:,} test images."
        )
    if dataset not in protocol.datasets:
        found.append(f"Evaluated on {dataset}, not on {' or '.join(protocol.datasets)}.")
    return tuple(found)


def _robustbench(
    record: Mapping[str, Any], given: Mapping[str, Any], dataset: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    notes = [given.get("footnote"), *_departures(ROBUSTBENCH, record, dataset)]
    footnote = " ".join(note for note in notes if note)
    content = {
        "link": given.get("link"),
        "name": given.get("name"),
        "authors": given.get("authors"),
        "additional_data": given.get("additional_data"),
        "number_forward_passes": given.get("number_forward_passes", 1),
        "dataset": dataset,
        "venue": given.get("venue"),
        "architecture": given.get("architecture"),
        "eps": ROBUSTBENCH.radii[record["norm"]],
        "clean_acc": _percent(record["clean_accuracy"]),
        "reported": given.get("reported"),
        "autoattack_acc": _percent(record["robust_accuracy"]),
        **({"footnote": footnote} if footnote else {}),
        "unreliable": bool(doubts(record)),
    }
    return content, doubts(record)


def doubts(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the checks say against a record's robust accuracy."""
    return tuple(
        finding["message"]
        for finding in record.get("findings", ())
        if finding["severity"] in ("error", "warning") and finding["check"] not in _OF_SIZE
    )


def _pruning_benchmark(
    record: Mapping[str, Any], given: Mapping[str, Any], dataset: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    structure = given.get("structure", "weights")
    size, departures = _size(record, given, structure)
    name = {CIFAR10: "CIFAR10", "svhn": "SVHN"}.get(dataset, dataset)
    method, architecture = given.get("ap_method"), given.get("architecture")
    kind, key = "US" if structure == "weights" else "S", None
    if method and architecture and size:
        key = f"{method}_{SHORT[architecture]}_{name}_{kind}_{size}"
    measures = record.get("measures", ())
    curve = next((m for m in measures if m["measure"] == "security-curve"), None)
    content = {
        "model_key": key,
        "ap_method": method,
        "architecture": architecture,
        "dataset": name,
        "structure": structure,
        "sparsity_rate": size,
        "sparsity_measured": round(100 * record["cost"]["sparsity"], 4),
        "eps": PRUNING_BENCHMARK.radii["linf"],
        "num_samples": record["num_samples"],
        "clean_accuracy": _percent(record["clean_accuracy"]),
        "robust_accuracy_aa": _percent(record["robust_accuracy"]),
        "robust_accuracy_fmn": _percent(curve["values"].get("accuracy_at_eps")) if curve else None,
        "minimum_norm": {"spec": curve["spec"], "values": curve["values"]} if curve else None,
        "security_curve": curve["curves"][0] if curve and curve["curves"] else None,
        "normalization": given.get("normalization", False),
        **{key: given.get(key) for key in ("link_to_paper", "model_gdrive", "distances_gdrive")},
    }
    return content, (*departures, *doubts(record))


def _size(
    record: Mapping[str, Any], given: Mapping[str, Any], structure: str
) -> tuple[str | None, tuple[str, ...]]:
    """Return the sparsity in percent as the benchmark writes it, or why it has none."""
    percent = given.get("sparsity_rate", 100 * record["cost"]["sparsity"])
    nearest = min(SIZES[structure], key=lambda size: abs(size - percent))
    if abs(nearest - percent) <= _ROUNDING:
        return str(nearest), ()
    sizes = ", ".join(map(str, SIZES[structure]))
    text = f"The network's sparsity is {percent:.2f} %; the benchmark compares {sizes} %"
    return None, (f"{text} ({structure}).",)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f}"
