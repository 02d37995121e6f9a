"""Ask an exported file what it answers, on real images and under attack.

A file that should be the same function must give the same logits, and is put to the very images
that an attack found against the network. One whose weights were rounded is another network and is
attacked itself. Nothing here asks the network in memory in the file's place.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.progress import Progress
from wiry.evaluation.table import Table
from wiry.export.straight_through import StraightThrough

TOLERANCE = 1e-4
"""Most that logits may differ, of the largest: another order of summation, not another network."""

_QUERIES = 500  # of Square, which needs no gradients, on a file that is another network


@dataclasses.dataclass(frozen=True)
class Images:
    """Images with their labels, and the attacks on them."""

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    attacks: Sequence[Any]
    seed: int


def verify(
    model: nn.Module,
    opened: nn.Module,
    images: Images,
    *,
    is_rounded: bool,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare a file's answers with the network's.

    Args:
        opened: answers as the file does.
        is_rounded: whether the file is another network, to be attacked anew.

    Returns:
        Plain data: `num_samples`, `largest_difference` (of logits, relative to the largest),
        `num_predictions_apart`, `clean_before`, `clean_after`, `robust_before`, `robust_after`
        (shares; None without attacks), `attacks`, `how`.

    Raises:
        UserError: if a file that should be the same function is not.
    """
    before, after = _logits(model, images.x), _logits(opened, images.x)
    difference = _difference(before, after)
    if not is_rounded and not difference <= TOLERANCE:
        raise UserError(
            f"the file answers otherwise than the network: logits differ by {difference:.1e} of "
            f"the largest (rounding explains {TOLERANCE:.0e}); it was not kept"
        )
    clean_after = after.argmax(1) == images.y
    found = {
        "num_samples": len(images.x),
        "largest_difference": difference,
        "num_predictions_apart": int((before.argmax(1) != after.argmax(1)).sum()),
        "clean_before": _share(before.argmax(1) == images.y),
        "clean_after": _share(clean_after),
        "is_rounded": is_rounded,
    }
    if not images.attacks:
        return found | _nothing()
    attacks = images.attacks  # the same ones on both, or numbers could not be compared
    if is_rounded:
        attacks = (*attacks, _black_box(attacks[0]))
    adversarial = images.x.clone()
    table = _attacked(model, images, attacks, adversarial, progress)
    found |= {"robust_before": float(table.robust.mean()), "attacks": _names(attacks)}
    survivors = clean_after & (_logits(opened, adversarial).argmax(1) == images.y)
    if not is_rounded:
        how = "replayed: the images that fooled the network were put to the file"
        return found | {"robust_after": _share(survivors), "how": how}
    anew = _attacked(StraightThrough(opened, model), images, attacks, None, progress)
    robust = torch.from_numpy(anew.robust) & survivors
    how = (
        "attacked anew: gradients of the network before rounding, logits of the file; black-box "
        "search on the file; and the images that fooled the network"
    )
    return found | {"robust_after": _share(robust), "how": how}


def _black_box(attack: Any) -> Any:
    budget = {"eps": attack.eps, "norm": attack.norm}
    return registry("attack").build({"name": "square", **budget, "num_queries": _QUERIES})


def _nothing() -> dict[str, Any]:
    how = "not attacked: the network was not trained against an attack and no --eps was given"
    return {"robust_before": None, "robust_after": None, "attacks": [], "how": how}


def _attacked(
    model: nn.Module,
    images: Images,
    attacks: Sequence[Any],
    found: Tensor | None,
    progress: Progress | None,
) -> Table:
    return attack_images(
        model,
        images.x,
        images.y,
        attacks,
        seed=images.seed,
        cascade=True,
        found=found,
        batch_size="auto",
        progress=progress,
    )


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Float[Tensor, "n classes"]:
    return torch.cat([model(part).float() for part in x.split(100)])


def _difference(before: Tensor, after: Tensor) -> float:
    if before.shape != after.shape:
        raise UserError(
            f"the file answers with {tuple(after.shape)} numbers, the network with "
            f"{tuple(before.shape)}; it was not kept"
        )
    largest = float(before.abs().max())
    return float((before - after).abs().max()) / largest if largest else float(after.abs().max())


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _names(attacks: Sequence[Any]) -> list[str]:
    return [repr(attack) for attack in attacks]
