"""Screening: most of AutoAttack's verdicts for a part of its cost, with a bound on what it missed.

Every image meets Auto-PGD on the cross-entropy and on the targeted ratio. FAB and Square, which
cost four times as much and rarely take anything more, meet only the images that came nearest to
falling and a random audit of the others. If the audit loses a single image, all meet all. The
result is never called AutoAttack.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.attacked import check_images, table_of
from wiry.evaluation.batching import Batching, BatchSize
from wiry.evaluation.journal import Journal
from wiry.evaluation.judge import frozen
from wiry.evaluation.progress import Progress
from wiry.evaluation.session import CHUNK, Session, Verdict
from wiry.evaluation.table import Table

PROTOCOL = "screened"
_CONFIDENCE = 0.95
_FIRST = 2  # attacks that every image meets


@dataclasses.dataclass(frozen=True)
class Screening:
    """What the audit says of the images that did not meet every attack.

    Attributes:
        num_survivors: images that stood after the first attacks.
        num_suspects: those of them with the smallest margins, which met every attack.
        num_audited: others, drawn at random, which met every attack too.
        num_flips: audited images that fell.
        num_unseen: survivors that did not meet every attack; 0 if the audit called for all.
        flip_bound: upper 95 % bound of the share of unseen images that would fall.
        accuracy_bound: the same as a share of all images: by how much the robust accuracy may be
            too high.
        escalated: whether the audit lost an image and all survivors met every attack.
    """

    num_survivors: int
    num_suspects: int
    num_audited: int
    num_flips: int
    num_unseen: int
    flip_bound: float
    accuracy_bound: float
    escalated: bool

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return dataclasses.asdict(self)


def evaluate_screened(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    share: float = 0.05,
    min_audited: int = 30,
    seed: int = 0,
    batch_size: BatchSize | Batching = CHUNK,
    progress: Progress | None = None,
    journal: Journal | None = None,
    proven: Bool[Tensor, " n"] | None = None,
) -> tuple[Table, Screening]:
    """Screen a network: the first two attacks on all images, the others on a part with an audit.

    Args:
        attacks: those of AutoAttack (standard), the dearest last.
        share: of the survivors that are suspects, and that are audited.
        min_audited: images that are audited at least, where there are so many: of 30 without a flip
            the bound is a tenth.
        proven: images that no perturbation changes, by proof: attacks skip them.

    Raises:
        UserError: as `attack_images`, if there are too few attacks to leave one
            out, or if the share is none.
    """
    if len(attacks) <= _FIRST or not 0 < share <= 0.5:
        raise UserError(
            f"screening needs three attacks or more and a share up to 0.5, got {len(attacks)} and "
            f"{share:g}"
        )
    check_images(x, y, attacks)
    skipped = torch.zeros(len(x), dtype=torch.bool) if proven is None else proven
    with frozen(model):
        session = Session(
            model, x, y, seed=seed, batch_size=batch_size, journal=journal, progress=progress
        )
        session.plan(attacks)
        verdicts = [Verdict(session.clean_correct.clone()) for _ in attacks]
        for attack, verdict in zip(attacks[:_FIRST], verdicts[:_FIRST], strict=True):
            session.put(attack, verdict, session.standing & ~skipped)
        screening = _screen(session, attacks, verdicts, (share, min_audited), skipped)
        for before, verdict in itertools.pairwise(verdicts):
            verdict.robust &= before.robust  # as in a cascade, accuracies are cumulative
    table = table_of(session, attacks, verdicts, cascade=True, protocol=PROTOCOL, proven=proven)
    return table, screening


def _screen(
    session: Session,
    attacks: Sequence[Any],
    verdicts: list[Verdict],
    audit: tuple[float, int],
    skipped: Tensor,
) -> Screening:
    survivors = (session.standing & ~skipped).nonzero().flatten()
    suspects, audited = choose(survivors, session.margin[survivors], *audit, session.seed)
    met = torch.zeros_like(session.standing)
    met[torch.cat([suspects, audited])] = True
    _put_rest(session, attacks, verdicts, met)
    num_flips = int((~session.standing[audited]).sum())
    rest = session.standing & ~met & ~skipped
    if num_flips:
        session.plan(attacks[_FIRST:])
        _put_rest(session, attacks, verdicts, rest)
    num_unseen = 0 if num_flips else int(rest.sum())
    bound = flip_bound(len(audited)) if num_unseen else 0.0
    return Screening(
        len(survivors),
        len(suspects),
        len(audited),
        num_flips,
        num_unseen,
        bound,
        bound * num_unseen / len(session.x),
        escalated=num_flips > 0,
    )


def _put_rest(
    session: Session, attacks: Sequence[Any], verdicts: list[Verdict], on: Bool[Tensor, " n"]
) -> None:
    for attack, verdict in zip(attacks[_FIRST:], verdicts[_FIRST:], strict=True):
        session.put(attack, verdict, on & session.standing)


def choose(
    survivors: Int[Tensor, " n"],
    margin: Float[Tensor, " n"],
    share: float,
    min_audited: int,
    seed: int,
) -> tuple[Int[Tensor, " k"], Int[Tensor, " m"]]:
    """Return the survivors with the smallest margins, and a random draw of the others.

    Args:
        survivors: places of images.
        margin: of each of them.
        share: of the survivors in either, rounded up.
        min_audited: drawn at least, if there are so many.
    """
    count = math.ceil(share * len(survivors))
    order = margin.argsort(stable=True)
    suspects, others = survivors[order[:count]], survivors[order[count:]]
    drawn = torch.randperm(len(others), generator=stream(seed, "screened", "audit"))
    drawn = drawn[: max(count, min_audited)]
    return suspects, others[drawn].sort().values


def flip_bound(num_audited: int) -> float:
    """Return the upper 95 % bound of a share of which none was seen in so many draws.

    Source: Clopper and Pearson 1934 with no success; about 3 / n, the rule of three.
    """
    return 1.0 if num_audited == 0 else 1 - (1 - _CONFIDENCE) ** (1 / num_audited)
