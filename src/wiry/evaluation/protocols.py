"""The rules of public benchmarks as plain data: images, radius, attacks, and what a card asks for.

AutoAttack (standard) is what both want. Cards are filled in by `protocol_cards`; nothing is
attacked here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wiry.core.errors import UserError, closest

CIFAR10 = "cifar10"
_NUM_IMAGES = 10_000
SIZES = {"weights": (90, 95, 99), "filters": (50, 75, 90), "channels": (50, 75, 90)}
"""Sparsities in percent that the pruning benchmark compares, by structure."""

SHORT = {"resnet18": "R18", "vgg16": "V16"}
"""Its architectures, and how its model keys write them."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a benchmark fixes.

    Attributes:
        name: on the command line.
        radii: norm -> eps, as the benchmark writes it; the first is the default.
        measures: what it wants besides AutoAttack (standard).
        asked: fields of its card that only the author knows -> what they are.
        datasets: the data sets it is made for; the first is the default.
        num_samples: the first so many test images.
    """

    name: str
    radii: Mapping[str, str]
    measures: tuple[Mapping[str, Any], ...]
    asked: Mapping[str, str]
    datasets: tuple[str, ...] = (CIFAR10,)
    num_samples: int = _NUM_IMAGES


ROBUSTBENCH = Protocol(
    "robustbench",
    {"linf": "8/255", "l2": "0.5"},
    (),
    {
        "link": "address of the paper",
        "name": "title of the paper",
        "authors": "names, with commas",
        "venue": "such as NeurIPS 2020",
        "architecture": "such as WideResNet-28-10",
        "additional_data": "true or false: images beyond the training set",
        "reported": "robust accuracy in the paper, percent",
        "number_forward_passes": "of one prediction [1]",
        "footnote": "anything else [none]",
    },
)
"""Source: Croce et al. 2021 (RobustBench), its README and the cards under model_info."""

PRUNING_BENCHMARK = Protocol(
    "adversarial-pruning-benchmark",
    {"linf": "0.031"},
    ({"name": "security-curve", "tuned": True},),
    {
        "ap_method": "the method's key, such as HARP_Zhao2023Holistic",
        "architecture": "resnet18 or vgg16",
        "structure": "weights, filters or channels [weights]",
        "sparsity_rate": "percent, if zeros do not show it (filters that were cut out)",
        "link_to_paper": "address of the paper",
        "model_gdrive": "id of the checkpoint's file",
        "distances_gdrive": "id of the distances' file",
        "normalization": "true or false: images are to be normalised before the network [false]",
    },
    datasets=(CIFAR10, "svhn"),
)
"""Source: Piras et al. 2025, the benchmark's README and its template for new methods. Differs: the
minimum-norm attack is our own FMN, tuned, and counts at eps 0.031; the benchmark's HO-FMN looks at
128 images and counts at 8/255."""

PROTOCOLS = {protocol.name: protocol for protocol in (ROBUSTBENCH, PRUNING_BENCHMARK)}


def find_protocol(name: str) -> Protocol:
    """Return the protocol with a name.

    Raises:
        UserError: if there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no protocol {name!r}{closest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def parse_card(protocol: Protocol, fields: Mapping[str, str]) -> dict[str, Any]:
    """Check the fields that an author gives and return them with their types.

    Raises:
        UserError: for a field that the card does not have, or a value that it does not take.
    """
    given: dict[str, Any] = {}
    for key, text in fields.items():
        if key not in protocol.asked:
            raise UserError(
                f"the card of {protocol.name} has no {key!r}{closest(key, protocol.asked)}"
            )
        choices: tuple[str, ...] = ()
        if key in ("additional_data", "normalization"):
            choices = ("true", "false")
        elif key == "structure":
            choices = tuple(SIZES)
        elif protocol is PRUNING_BENCHMARK and key == "architecture":
            choices = tuple(SHORT)
        if choices and text not in choices:
            raise UserError(f"--card {key}={text}: it must be {' or '.join(choices)}")
        given[key] = text == "true" if choices == ("true", "false") else text
        if key in ("number_forward_passes", "sparsity_rate"):
            if not text.isdecimal() or not 0 < int(text) < 1000:
                raise UserError(f"--card {key}={text}: it must be a whole number above 0")
            given[key] = int(text)
    return given
