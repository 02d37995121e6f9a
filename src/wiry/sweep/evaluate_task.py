"""What `wiry evaluate` is asked to do: its options, and the attacks and measures they come to."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.types import parse_fractions
from wiry.evaluation.presets import attacks_of
from wiry.evaluation.protocols import Protocol
from wiry.sweep.evaluate_network import Network, Source
from wiry.sweep.threat import threat_of
from wiry.sweep.trial import Measurement

_CASCADES = ("autoattack", "screened")
_CURVE = "security-curve"
_SPECIAL = ("claim", "skip_certified", "seed")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """The arguments of `wiry evaluate`, parsed; None: not given.

    Attributes:
        data: spec of a data set or path of an .npz.
        measures: specs.
        curve: measure the security curve too, where AutoAttack or its screening judges.
        card: fields of the protocol's card, as text.
    """

    source: Source
    data: Mapping[str, Any] | Path | None = None
    split: str = "test"
    num_samples: int | None = None
    attack: str | None = None
    version: str | None = None
    eps: float | None = None
    norm: str | None = None
    measures: tuple[Mapping[str, Any], ...] = ()
    curve: bool = True
    against: Path | None = None
    claim: float | None = None
    skip_certified: bool = False
    protocol: str | None = None
    card: Mapping[str, str] = dataclasses.field(default_factory=dict)
    batch_size: int | Literal["auto"] = "auto"
    seed: int | None = None
    device: str = "cpu"
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.claim is not None and not 0 < self.claim < 1:
            raise UserError(
                f"--claim is a difference of accuracies in (0, 1), such as 0.02, got {self.claim:g}"
            )


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of a network: attacks in their order and what else is measured."""

    attacks: list[dict[str, Any]]
    measures: list[dict[str, Any]]
    cascade: bool
    screened: bool


def task_of(options: EvaluateOptions, network: Network, protocol: Protocol | None) -> Task:
    """Return the attacks and measures that the options come to for a network.

    Raises:
        UserError: for names, radii or norms that there are not, or that do not suit the network.
    """
    threat = threat_of(network.stage.objective) if network.stage is not None else None
    eps = options.eps if options.eps is not None or threat is None else threat.eps
    norm = options.norm or (threat.norm if threat is not None else "linf")
    if eps is None:
        why = "the network was not trained against an attack" if threat else "which radius?"
        raise UserError(f"{why}; give --eps, such as --eps 8/255")
    registry("attack").normalize({"name": "pgd", "eps": eps, "norm": norm})  # refuse bad ones
    if options.skip_certified and norm != "linf":
        raise UserError(f"--skip-certified goes with --norm linf, not {norm!r}; leave it out")
    attack = options.attack or ("square" if network.black_box else "autoattack")
    if options.version is not None and attack != "autoattack":
        raise UserError(f"--version is of --attack autoattack, not of {attack!r}")
    found = attacks_of(attack, eps, norm, options.version or "standard")
    attacks = [registry("attack").normalize(one) for one in found]
    if network.black_box:
        check_black_box(options.source.target, attacks)
    measures = [*options.measures, *(protocol.measures if protocol else ())]
    has_curve = any(measure["name"] == _CURVE for measure in measures)
    if options.curve and attack in _CASCADES and not network.black_box and not has_curve:
        measures.insert(0, {"name": _CURVE})
    return Task(
        attacks,
        [registry("measure").normalize(measure) for measure in measures],
        attack in _CASCADES,
        attack == "screened",
    )


def check_black_box(path: Path | None, attacks: Sequence[dict[str, Any]]) -> None:
    """Check that attacks need no gradients.

    Raises:
        UserError: naming the file and the attack that does.
    """
    for spec in attacks:
        if getattr(registry("attack").get(spec["name"]), "uses_gradient", True):
            raise UserError(
                f"{path} answers without gradients, which {spec['name']!r} needs; take --attack "
                "square (black box only), or judge the PyTorch network: --model "
                "package.module:function --weights FILE"
            )


def ruled_by(options: EvaluateOptions, protocol: Protocol) -> EvaluateOptions:
    """Return the options with what a protocol fixes.

    Raises:
        UserError: for an option that says otherwise.
    """
    for option in ("attack", "version"):
        if getattr(options, option) is not None:
            raise UserError(f"--protocol {protocol.name} fixes the attacks; leave --{option} out")
    norm = options.norm or next(iter(protocol.radii))
    if norm not in protocol.radii:
        raise UserError(
            f"--protocol {protocol.name} is for {' and '.join(protocol.radii)}, not {norm!r}"
        )
    eps = float(parse_fractions(protocol.radii[norm]))
    if options.eps is not None and abs(options.eps - eps) > 1e-9:
        raise UserError(
            f"--protocol {protocol.name} has eps {protocol.radii[norm]} in {norm}; leave --eps out"
        )
    num_samples = protocol.num_samples if options.num_samples is None else options.num_samples
    return dataclasses.replace(
        options, attack="autoattack", eps=eps, norm=norm, num_samples=num_samples
    )


def name_of(options: EvaluateOptions, task: Task) -> str:
    """Return the files' name: that of the same measurement in a recipe where nothing is special."""
    plain = Measurement(
        "",
        options.split,
        task.attacks,
        options.num_samples,
        task.cascade and not task.screened,
        task.screened,
        tuple(task.measures),
    ).name()
    special = {
        key: getattr(options, key) for key in _SPECIAL if getattr(options, key) not in (None, False)
    }
    text = json.dumps(special, sort_keys=True)
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:4]}" if special else plain
