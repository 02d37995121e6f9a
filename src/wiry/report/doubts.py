"""What makes an evaluation doubtful: what its checks found, and what the reader must know of it."""

from typing import Any

from wiry.report.evaluations import Evaluation, FindingRow
from wiry.report.parts import Cell, Section, Table, TableLine
from wiry.report.reading import number
from wiry.report.words import SPACE, count, percent, plain, points

_BADGES = {"error": "fails", "warning": "doubtful", "note": "explored"}
_SAID = {"error": "Error", "warning": "Warning"}
_WITHOUT_GRADIENTS = frozenset({"square"})
"""Registered attacks that ask for logits only."""


def alarms_of(evaluation: Evaluation | None, name: str = "") -> list[str]:
    """Return what must be said before an evaluation's numbers; `name` is the network's."""
    if evaluation is None:
        return []
    before = f"{name}: " if name else ""
    found = [
        f"{before}{_SAID.get(f.severity, 'Warning')} ({f.check}): {f.message}"
        for f in evaluation.findings or []
        if f.severity != "note"
    ]
    said = any(finding.check == "black-box-only" for finding in evaluation.findings or [])
    if is_black_box(evaluation) and not said:
        found.append(
            f"{before}Black box only: no attack used gradients, so the robust accuracy may be far "
            "too high."
        )
    return found


def has_error(evaluation: Evaluation) -> bool:
    """Say whether a check found that the numbers are wrong."""
    return any(finding.severity == "error" for finding in evaluation.findings or [])


def is_black_box(evaluation: Evaluation) -> bool:
    """Say whether all attacks looked at logits only."""
    names = [_attack_name(row) for row in evaluation.attacks]
    return bool(names) and all(name in _WITHOUT_GRADIENTS for name in names)


def _attack_name(row: dict[str, Any]) -> str:
    spec = row.get("spec")
    return str(spec.get("name", "")) if isinstance(spec, dict) else ""


def finding_section(evaluation: Evaluation) -> Section | None:
    """Return the section on the checks; nothing if the record does not say that any ran."""
    if evaluation.findings is None:
        return None
    ran = "The checks" if evaluation.checks is None else _ran(len(evaluation.checks))
    title = "Can the numbers be believed?"
    if not evaluation.findings:
        nothing = " found nothing." if evaluation.checks is None else ", nothing found."
        return Section("checks", title, lead=ran + nothing)
    lines = [_line(finding) for finding in evaluation.findings]
    num = len(lines)
    found = f"{num} {'thing' if num == 1 else 'things'} found, the gravest first."
    caption = found if evaluation.checks is None else f"{ran}, {found}"
    table = Table(caption, ["Check", "What was found, and what to do"], lines)
    return Section("checks", title, table)


def _ran(num: int) -> str:
    return f"{num} check{'' if num == 1 else 's'}"


def _line(finding: FindingRow) -> TableLine:
    evidence = "; ".join(f"{key} {plain(value)}" for key, value in finding.evidence.items())
    badge = _BADGES.get(finding.severity, "doubtful")
    return TableLine(
        [Cell(finding.severity, finding.check, badge), Cell(finding.message, evidence)]
    )


def provisos(evaluation: Evaluation) -> list[str]:
    """Return how far the robust accuracy is by proof, and what a screening may have missed."""
    found = (_certified(evaluation.certified), _screened(evaluation.screened))
    return [text for text in found if text]


def _certified(raw: dict[str, Any] | None) -> str:
    num = number((raw or {}).get("num"))
    if raw is None or num is None:
        return ""
    method = str(raw.get("method", "")).upper()
    if not num:
        return f"Bounds ({method}) prove none of the images, so the attacks met all."
    images = "1 image" if num == 1 else f"{count(num)} images"
    return (
        f"Bounds ({method}) prove {images} right for every perturbation in the ball; the attacks "
        f"skipped {'it' if num == 1 else 'them'}."
    )


def _screened(raw: dict[str, Any] | None) -> str:
    if raw is None:
        return ""
    keys = ("num_audited", "num_flips", "num_unseen", "flip_bound", "accuracy_bound")
    audited, flips, unseen, flip, bound = (number(raw.get(key)) for key in keys)
    if raw.get("escalated") is True:
        fell = "images" if flips is None else f"{count(flips)} of {count(audited)} images"
        return (
            f"Screened: the audit lost {fell}, so all images met every attack; none was left out."
        )
    text = (
        "Screened, which is not AutoAttack: the dearest attacks met only the images nearest to "
        "falling and a random audit of the others."
    )
    if audited is not None and flips is not None:
        text += f" {count(flips)} of {count(audited)} audited images fell."
    if bound is not None:
        seen = (
            f", at most {percent(flip)} of the {count(unseen)} not met would fall:"
            if (flip is not None and unseen)
            else ""
        )
        text += (
            f" With 95{SPACE}% confidence{seen} the robust accuracy is at most {points(bound)} "
            "too high."
        )
    return text
