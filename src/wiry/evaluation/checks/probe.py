"""What several checks look at, found out once a subject: answers and gradients on a few images.

Every evaluation runs all checks, so they share images and what was computed on them. Attacks on
them are in `short_attacks.py`. No check is here, and nothing is judged.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wiry.attacks.base import attacking
from wiry.attacks.losses import cross_entropy, margin
from wiry.core.rng import stream
from wiry.evaluation.batching import is_out_of_memory
from wiry.evaluation.judge import device_of
from wiry.evaluation.subject import Subject

NUM_ASKED = 128
"""Images that are put through the network clean: a share of them is known to 9 points."""

NUM_ATTACKED = 32
"""Images that are attacked; each costs some hundred passes."""

Found = TypeVar("Found")
_FOUND: weakref.WeakKeyDictionary[Subject, dict[str, Any]] = weakref.WeakKeyDictionary()


def once(work: Callable[[Subject], Found]) -> Callable[[Subject], Found]:
    """Remember what a function found out about a subject, for as long as the subject lives."""

    @functools.wraps(work)
    def remembered(subject: Subject) -> Found:
        found = _FOUND.setdefault(subject, {})
        if work.__name__ not in found:
            found[work.__name__] = work(subject)
        return found[work.__name__]  # type: ignore[no-any-return] # stored two lines above

    return remembered


def drawn(subject: Subject, index: Int[Tensor, " n"], num: int, name: str) -> Int[Tensor, " k"]:
    """Return at most `num` of some images, drawn at random: data may be sorted by class."""
    order = torch.randperm(len(index), generator=stream(subject.seed, "checks", name))
    return index[order[:num]].sort().values


@once
def asked(subject: Subject) -> Int[Tensor, " k"]:
    """Return the images that checks put through the network clean."""
    return drawn(subject, torch.arange(len(subject.x)), NUM_ASKED, "asked")


@once
def in_range(subject: Subject) -> bool:
    """Say whether the images are numbers in [0, 1], which attacks rely on."""
    x = subject.x
    return x.is_floating_point() and bool(((x >= 0) & (x <= 1)).all())


@torch.no_grad()
def answers(subject: Subject, x: Float[Tensor, "k c h w"]) -> Float[Tensor, "k classes"] | None:
    """Return logits on the CPU; None if what the network returns is no table of them."""
    device, size, found = device_of(subject.model), max(subject.batch_size, 1), []
    for part in x.split(size):
        logits = subject.model(part.to(device))
        if not isinstance(logits, Tensor) or logits.shape != (len(part), subject.num_classes):
            return None
        found.append(logits.detach().float().cpu())
    return torch.cat(found) if found else None


@once
def clean_logits(subject: Subject) -> Float[Tensor, "k classes"] | None:
    """Return the logits of the images of `asked`."""
    return answers(subject, subject.x[asked(subject)])


@once
def second_logits(subject: Subject) -> Float[Tensor, "k classes"] | None:
    """Return the same logits, asked for a second time in the same batches."""
    return answers(subject, subject.x[asked(subject)])


@once
def is_random(subject: Subject) -> bool:
    """Say whether the network's answers differ from pass to pass by more than rounding."""
    first, second = clean_logits(subject), second_logits(subject)
    if first is None or second is None:
        return False
    finite = first.isfinite() & second.isfinite()
    if not finite.any():
        return False
    scale = float(first[finite].abs().max())
    return float((first - second)[finite].abs().max()) > 1e-4 * scale


@once
def says_one_class(subject: Subject) -> bool:
    """Say whether the network has one answer only for the images of `asked`."""
    logits = clean_logits(subject)
    return logits is not None and len(logits.argmax(1).unique()) == 1 and len(logits) > 1


@once
def attacked(subject: Subject) -> Int[Tensor, " k"]:
    """Return the images that checks attack: right when clean."""
    return drawn(subject, subject.clean_correct.nonzero().flatten(), NUM_ATTACKED, "attacked")


@dataclasses.dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of two losses on the clean images of `attacked`, one row an image."""

    cross_entropy: Float[Tensor, "k pixels"]
    margin: Float[Tensor, "k pixels"]


@once
def gradients(subject: Subject) -> Gradients | str:
    """Return the gradients on the input, or why there are none."""
    index, device = attacked(subject), device_of(subject.model)
    found: list[list[Tensor]] = []
    with attacking(subject.model, "eval"):
        for part in index.split(max(subject.batch_size, 1)):
            x, y = subject.x[part].to(device), subject.y[part].to(device)
            try:
                logits = subject.model(x.requires_grad_())
                losses = cross_entropy(logits, y).sum(), margin(logits, y).sum()
                (first,) = torch.autograd.grad(losses[0], x, retain_graph=True)
                (second,) = torch.autograd.grad(losses[1], x)
            except RuntimeError as error:  # so autograd says that there is no way back
                if is_out_of_memory(error):
                    raise
                return str(error).split("\n")[0]
            found.append([first.flatten(1).cpu(), second.flatten(1).cpu()])
    return Gradients(*(torch.cat(parts) for parts in zip(*found, strict=True)))
