"""Put attacks to images, each to all or each to what the earlier ones left, and return the table.

How an image is attacked and checked is `session` and `judge`; the whole of an evaluation with its
measures and checks is `examination`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.presets import protocol_of
from wiry.core.errors import UserError
from wiry.evaluation.batching import Batching, BatchSize
from wiry.evaluation.journal import Journal
from wiry.evaluation.judge import frozen
from wiry.evaluation.progress import Progress
from wiry.evaluation.session import CHUNK, Session, Verdict
from wiry.evaluation.table import Effort, Table, describe


def attack_images(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    seed: int = 0,
    cascade: bool = False,
    batch_size: BatchSize | Batching = CHUNK,
    progress: Progress | None = None,
    found: Float[Tensor, "n c h w"] | None = None,
    journal: Journal | None = None,
    proven: Bool[Tensor, " n"] | None = None,
) -> Table:
    """Ask a model about images, clean and under attacks, and return one row an image.

    Attacks run only on images that are correct when clean; the others count as not robust. Each
    adversarial image is checked to be inside the ball and put to the model again. The search for it
    is on a private copy with batch normalisation folded, where that is possible. The model comes
    back as it was: mode, `requires_grad`, buffers, gradients.

    Images draw from streams of their own, keyed by (seed, repr of the attack, index), so a row does
    not depend on the other images nor on `batch_size`. An attack that asks for one generator gets
    chunks of 250 images in their order with a stream for each chunk.

    Args:
        cascade: let each attack skip what an earlier one has fooled. Faster; the accuracies of the
            single attacks become cumulative.
        batch_size: images in a forward pass, clean or attacked; halved where memory runs out.
        found: if given, the images that fool are written into it, at their places.
        journal: takes what is found, batch by batch, and has what an earlier process found.
        proven: images that no perturbation changes, by proof: attacks skip them.

    Raises:
        UserError: if there is no image, labels are missing, an attack is listed twice, or memory
            does not suffice for one image.
        AssertionError: naming the attack, if it leaves its ball or [0, 1].
    """
    check_images(x, y, attacks)
    with frozen(model):
        session = Session(
            model,
            x,
            y,
            seed=seed,
            batch_size=batch_size,
            journal=journal,
            progress=progress,
            found=found,
        )
        session.plan(attacks)
        verdicts = []
        for attack in attacks:
            start = session.standing if cascade else session.clean_correct
            verdict = Verdict(start.clone())
            session.put(attack, verdict, start if proven is None else start & ~proven)
            verdicts.append(verdict)
    protocol = protocol_of(attacks, cascade=cascade)
    return table_of(session, attacks, verdicts, cascade=cascade, protocol=protocol, proven=proven)


def table_of(
    session: Session,
    attacks: Sequence[Any],
    verdicts: Sequence[Verdict],
    *,
    cascade: bool,
    protocol: str | None,
    proven: Bool[Tensor, " n"] | None = None,
) -> Table:
    """Return the table of a session, with a verdict for each attack."""
    return Table(
        index=np.arange(len(session.x)),
        label=session.y.numpy().copy(),
        prediction=session.prediction.numpy(),
        clean_correct=session.clean_correct.numpy(),
        by_attack={repr(a): v.robust.numpy() for a, v in zip(attacks, verdicts, strict=True)},
        attacks=tuple(describe(attack) for attack in attacks),
        efforts=tuple(Effort(v.num_attacked, v.num_fooled, v.seconds) for v in verdicts),
        seed=session.seed,
        cascade=cascade,
        examples=session.examples.arrays(),
        protocol=protocol,
        proven=None if proven is None else proven.numpy(),
    )


def check_images(x: Tensor, y: Tensor, attacks: Sequence[Any]) -> None:
    """Check that there are images with a label each, and that no attack is listed twice.

    Raises:
        UserError: if not.
    """
    if not len(x) or len(x) != len(y):
        raise UserError(f"evaluation needs images with a label each, got {len(x)} and {len(y)}")
    names = [repr(attack) for attack in attacks]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"attack {twice[0]} is listed twice; remove one")
