"""Short attacks on a few images, shared by checks: how an evaluation's verdict holds up.

What is known of the clean images is `probe.py`. No check is here, and nothing is judged.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from wiry.attacks.base import Norm
from wiry.attacks.pgd import PGD
from wiry.core.draws import draws_of
from wiry.evaluation.checks.probe import (
    NUM_ATTACKED,
    attacked,
    clean_logits,
    drawn,
    gradients,
    in_range,
    is_random,
    once,
)
from wiry.evaluation.judge import device_of, predict
from wiry.evaluation.subject import Subject

MIN_IMAGES = 3
"""Fewer images than that may fall by chance."""

_STEPS = 10  # of the ordinary attack, PGD of training (Madry et al. 2018)
_STRONG_STEPS = 40  # four times as many
_NORMS = ("linf", "l2", "l1")


@once
def can_attack(subject: Subject) -> bool:
    """Say whether short attacks on the network tell anything: with gradients, without noise."""
    if not subject.eps or subject.norm not in _NORMS or subject.num_classes < 2:
        return False
    if len(attacked(subject)) == 0 or not in_range(subject) or clean_logits(subject) is None:
        return False
    found = gradients(subject)
    return (
        not isinstance(found, str)
        and bool(found.cross_entropy.isfinite().all() and found.margin.isfinite().all())
        and not is_random(subject)
    )


def fooled(
    subject: Subject, attack: Any, index: Int[Tensor, " k"], *, turn: int = 0
) -> Bool[Tensor, " k"]:
    """Return which of some images an attack fools; its draws are each image's own, each turn's."""
    model, device = subject.model, device_of(subject.model)
    found = [torch.empty(0, dtype=torch.bool)]
    if len(index) == 0:
        return found[0]
    for part in index.split(max(subject.batch_size, 1)):
        x, y = subject.x[part].to(device), subject.y[part]
        draws = draws_of(subject.seed, "checks", repr(attack), turn, index=part)
        adversarial = attack(model, x, y.to(device), draws)
        is_image = adversarial.flatten(1).isfinite().all(1).cpu()
        wrong = predict(model, adversarial, batch_size=len(part)) != y
        found.append(wrong & is_image)
    return torch.cat(found)


def ball_of(subject: Subject) -> tuple[float, Norm]:
    """Return the radius and the norm of the evaluation, where `can_attack` says that there are."""
    assert subject.eps is not None, "asked for an attack without a radius"
    return subject.eps, cast(Norm, subject.norm)


def ordinary(subject: Subject) -> PGD:
    """Return PGD as it is used in training."""
    return PGD(*ball_of(subject), steps=_STEPS)


def strong(subject: Subject) -> PGD:
    """Return PGD with more iterations, and a loss that does not saturate."""
    return PGD(*ball_of(subject), steps=_STRONG_STEPS, loss="margin", drop_fooled=True)


@once
def ordinary_fooled(subject: Subject) -> Bool[Tensor, " k"]:
    """Return which of `attacked` ordinary PGD fools."""
    return fooled(subject, ordinary(subject), attacked(subject))


@once
def still_right(subject: Subject) -> Int[Tensor, " n"]:
    """Return all images that stood in the evaluation and are not proven to.

    Without a table: the images of `attacked` that ordinary PGD left.
    """
    table = subject.table
    if table is None or not table.by_attack:
        return attacked(subject)[~ordinary_fooled(subject)]
    left = torch.from_numpy(table.robust)
    if table.proven is not None:
        left = left & ~torch.from_numpy(table.proven)
    return left.nonzero().flatten()


@once
def survivors(subject: Subject) -> Int[Tensor, " k"]:
    """Return some images of `still_right`."""
    return drawn(subject, still_right(subject), NUM_ATTACKED, "survivors")


@once
def strong_fooled(subject: Subject) -> Bool[Tensor, " k"]:
    """Return which of `survivors` strong PGD fools from a first start or, if any, from a second.

    Where the first fools none, which is so for sound evaluations, a second one hardly would.
    """
    attack, index = strong(subject), survivors(subject)
    found = fooled(subject, attack, index)
    if bool(found.any()):
        left = (~found).nonzero().flatten()
        found[left] = fooled(subject, attack, index[left], turn=1)
    return found


def is_thorough(subject: Subject) -> bool:
    """Say whether the evaluation's attacks choose their own steps and do not rest on one loss."""
    protocol = None if subject.table is None else subject.table.protocol
    losses = {getattr(attack, "loss", None) for attack in subject.attacks}
    return protocol is not None or "targeted-dlr" in losses


def accuracy_at_stake(subject: Subject, num_fooled: int) -> float:
    """Return by how much the robust accuracy is too high if some of `survivors` fall after all."""
    if num_fooled == 0:
        return 0.0
    of_all = len(still_right(subject)) / _num_judged(subject)
    return num_fooled / len(survivors(subject)) * of_all


def advice(subject: Subject) -> str:
    """Return what to evaluate with, in the norm at hand."""
    return "Evaluate with 'autoattack'"


def _num_judged(subject: Subject) -> int:
    if subject.table is None or not subject.table.by_attack:
        return len(attacked(subject))
    return len(subject.x)
