"""The whole of an evaluation behind one call: attacks, measures, and what makes them doubtful.

`wiry.evaluate` is `evaluate` here. It works on any network that takes images in [0, 1] and returns
logits. `record.py` writes what comes out to files and answers a question only once.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.bounds.certify import certified
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.batching import Batching, BatchSize
from wiry.evaluation.examine import findings_of, measure_arrays, measure_rows, measured
from wiry.evaluation.journal import journal_of
from wiry.evaluation.judge import device_of, frozen
from wiry.evaluation.presets import attacks_of
from wiry.evaluation.progress import Progress, Status
from wiry.evaluation.screened import Screening, evaluate_screened
from wiry.evaluation.subject import Finding, Measured, Subject
from wiry.evaluation.table import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        table: one row an image, clean and under each attack.
        findings: what makes the numbers doubtful, the gravest first.
        measures: spec of each further measure, and what it found.
        screening: what the audit of a screened evaluation said, else None.
        class_names: names of the classes; `checks`: those of the checks that ran.
    """

    table: Table
    findings: tuple[Finding, ...]
    measures: tuple[tuple[dict[str, Any], Measured], ...]
    screening: Screening | None
    class_names: tuple[str, ...]
    checks: tuple[str, ...] = ()

    @property
    def clean_accuracy(self) -> float:
        """Share of the images that are right."""
        return float(self.table.clean_correct.mean())

    @property
    def robust_accuracy(self) -> float | None:
        """Share of the images that are right, clean and under every attack; None without one."""
        return float(self.table.robust.mean()) if self.table.by_attack else None

    def to_data(self, *, split: str = "", seconds: float | None = None) -> dict[str, Any]:
        """Return everything but the arrays as plain data, ready for JSON."""
        data = self.table.summary(split=split, class_names=self.class_names, seconds=seconds)
        data["findings"] = [dataclasses.asdict(finding) for finding in self.findings]
        data["checks"] = list(self.checks)
        data["measures"] = measure_rows(self.measures)
        data["screened"] = self.screening.to_data() if self.screening else None
        return data

    def save(self, folder: Path | str, name: str = "evaluation", **more: Any) -> dict[str, Any]:
        """Write `<name>.npz` and `<name>.json`, which `wiry.write_report` makes a page of.

        Args:
            more: further entries of the record.
        """
        data = {**self.to_data(), **more}
        return self.table.save(Path(folder), name, data, measure_arrays(self.measures))

    def __str__(self) -> str:
        """Return the verdict and the findings in a few lines."""
        robust = self.robust_accuracy
        text = f"clean {self.clean_accuracy:.1%}"
        if robust is not None:
            attack = self.table.attacks[0]
            what = self.table.protocol or f"{len(self.table.by_attack)} attacks"
            text += f", robust {robust:.1%} ({what}, {attack['norm']} eps {attack['eps']:.4g})"
        lines = [f"{text}, {len(self.table.index)} images"]
        lines += [f"{f.severity}: {f.message}" for f in self.findings]
        return "\n".join(lines)


def evaluate(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attack: str | Sequence[Any] = "autoattack",
    *,
    eps: float | None = 8 / 255,
    norm: str = "linf",
    version: str = "standard",
    measures: Sequence[Any] = (),
    mask: Mask | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    cascade: bool | None = None,
    screened: bool = False,
    batch_size: BatchSize = "auto",
    skip_certified: bool = False,
    claim: float | None = None,
    check: bool = True,
    progress: Progress | None = None,
    state: Path | str | None = None,
) -> Evaluation:
    """Judge any network: clean and robust accuracy, further measures, and what to doubt.

    The network takes images in [0, 1] and returns logits; normalisation is its first layer. It
    comes back as it was. An image's result depends neither on the batch size nor on other images.

    Args:
        attack: "autoattack", "screened" (most of it, with a bound on what it missed), "screen", a
            registered attack's name, or attacks.
        eps: radius of the ball, pixels in [0, 1]; of no use where attacks are given.
        norm: "linf", "l2" or "l1".
        version: of AutoAttack: "standard", "plus" or "rand".
        measures: what else to measure: names, specs or measures, see `wiry list measure`.
        mask: of a sparse network, to check that it is in force.
        cascade: let each attack skip what an earlier one has fooled; None: for AutoAttack only.
        screened: the last of the attacks, from the third on, meet a part of the images only; what
            the attack "screened" does with those of AutoAttack.
        batch_size: images at once; "auto" takes 128 on a CPU, more of small images, and what
            fits on a GPU.
        skip_certified: let attacks skip images that interval bounds prove robust (linf).
        claim: difference of two accuracies that is to be read from these images.
        check: run the checks.
        progress: called with a `Status` after every batch.
        state: folder for what has been found so far. The same call takes it up after a kill; with
            other weights, images or attacks it starts anew. Delete it in the end.

    Raises:
        UserError: for attacks, measures or images that cannot be used.
        AssertionError: naming the attack, if it leaves its ball or [0, 1].
    """
    attacks = attacks_of(attack, eps, norm, version)
    training = tuple(name for name, module in model.named_modules() if module.training)
    usable = len(x) == 0 or bool(((x >= 0) & (x <= 1)).all())
    if not usable:
        attacks = ()  # no ball to stay in; the finding on the inputs says so
    with frozen(model):
        batching = Batching(batch_size, model, x)
    proven = _proven(model, x, y, attacks, batching) if skip_certified and attacks else None
    screened = bool(attacks) and (screened or attack == "screened")
    in_turn = attack == "autoattack" if cascade is None else cascade
    journal = None
    if state is not None:
        question = {"cascade": in_turn, "screened": screened, "skipping": skip_certified}
        journal = journal_of(Path(state), model, x, y, attacks, seed, **question)
    shared = {"seed": seed, "batch_size": batching, "progress": progress, "journal": journal}
    screening = None
    if screened:
        table, screening = evaluate_screened(model, x, y, attacks, proven=proven, **shared)
    else:
        table = attack_images(model, x, y, attacks, cascade=in_turn, proven=proven, **shared)
    subject = _subject(model, x, y, table, attacks, mask, class_names, batching.size)
    subject = dataclasses.replace(subject, seed=seed, training=training, claim=claim)
    if not attacks:
        subject = dataclasses.replace(subject, eps=eps, norm=norm)
    findings = findings_of(subject) if check else []

    def tell(name: str) -> None:
        if progress is not None:
            progress(Status(name, 0, 0, int(table.robust.sum()), len(x)))

    found = measured(subject, measures if usable else (), tell)
    said = (tuple(findings), tuple(found), screening, subject.class_names)
    return Evaluation(table, *said, tuple(registry("check").names()) if check else ())


def _subject(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    table: Table,
    attacks: Sequence[Any],
    mask: Mask | None,
    class_names: Sequence[str] | None,
    batch_size: int,
) -> Subject:
    with frozen(model), torch.no_grad():
        num_classes = model(x[:1].to(device_of(model))).shape[1]
    names = tuple(class_names or ())
    names += tuple(str(label) for label in range(len(names), num_classes))
    norms = {a.norm for a in attacks}
    return Subject(
        model=model,
        x=x.cpu(),
        y=y.cpu(),
        clean_correct=torch.from_numpy(table.clean_correct),
        num_classes=num_classes,
        class_names=names,
        eps=max((float(a.eps) for a in attacks), default=None) if len(norms) == 1 else None,
        norm=norms.pop() if len(norms) == 1 else "linf",
        batch_size=batch_size,
        mask=mask,
        table=table,
        attacks=tuple(attacks),
    )


def _proven(
    model: nn.Module, x: Tensor, y: Tensor, attacks: Sequence[Any], batching: Batching
) -> Bool[Tensor, " n"]:
    """Return for which images interval bounds prove the class in the largest ball of the attacks.

    Raises:
        UserError: for attacks in another norm, or a layer whose bounds are not known.
    """
    if {a.norm for a in attacks} != {"linf"}:
        raise UserError("images can be skipped as certified in linf only; leave skip_certified out")
    eps = max(float(a.eps) for a in attacks)
    device = device_of(model)

    def prove(index: Tensor) -> list[Tensor]:
        images, labels = x[index.to(x.device)].to(device), y[index.to(y.device)].to(device)
        return [certified(model, images, labels, eps).cpu()]

    with frozen(model):
        parts = torch.arange(len(x)).split(batching.size)
        return torch.cat([found for part in parts for found in batching.apply(prove, part)])
