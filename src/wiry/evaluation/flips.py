"""What sparsity changed, image by image: which verdicts flipped, and whether margins foretold it.

Two per-sample tables of the same images are compared, one of a dense and one of a sparse network
(or of any other two). No network is asked here but for `clean_margins`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.losses import margin as loss_margin
from wiry.core.errors import UserError
from wiry.evaluation.judge import device_of, frozen
from wiry.evaluation.paired import mcnemar, paired_interval
from wiry.evaluation.subject import Curve
from wiry.evaluation.table import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Foretold:
    """How a dense network's margin on the clean image goes with losing the image.

    Attributes:
        auc: chance that a lost image has a smaller margin than a kept one; 0.5 says nothing, 1
            that the margin tells all. None if nothing was lost, or nothing kept.
        correlation: of margin and being lost (point-biserial); negative if small margins are lost.
        curve: share lost over the mean margin of equally large groups.
    """

    auc: float | None
    correlation: float | None
    curve: Curve


@dataclasses.dataclass(frozen=True, eq=False)
class Verdicts:
    """Verdicts of two networks on the same images.

    Attributes:
        num_kept: images both have right.
        num_lost: images that only the dense network has right.
        num_gained: images that only the sparse one has right.
        num_wrong: images neither has right.
        dense_accuracy: of the dense network, and so on.
        difference: sparse accuracy minus dense.
        interval: of the difference, 95 %, for images drawn anew (not for networks trained anew).
        p_value: of no difference, exact (McNemar).
        lost: indices of the lost images.
        gained: indices of the gained ones.
        per_class: the same in each class: name, num, dense, sparse, difference, lost and gained.
        foretold: what the dense margin says of losses among the images the dense network has
            right; None without margins.
    """

    num_kept: int
    num_lost: int
    num_gained: int
    num_wrong: int
    dense_accuracy: float
    sparse_accuracy: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    lost: Int[np.ndarray, " lost"]
    gained: Int[np.ndarray, " gained"]
    per_class: list[dict[str, Any]]
    foretold: Foretold | None

    def to_data(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        data = dataclasses.asdict(self)
        return data | {
            "interval": list(self.interval),
            "lost": self.lost.tolist(),
            "gained": self.gained.tolist(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Flips:
    """What changed from a dense to a sparse network, without and under attack.

    Attributes:
        clean: verdicts on the images as they are.
        robust: verdicts in the worst case of all attacks; None if there was none.
    """

    clean: Verdicts
    robust: Verdicts | None

    def to_data(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        robust = None if self.robust is None else self.robust.to_data()
        return {"clean": self.clean.to_data(), "robust": robust}


def compare_verdicts(
    dense: Table,
    sparse: Table,
    margin: Float[np.ndarray, " n"] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    num_bins: int = 4,
) -> Flips:
    """Compare two tables of the same images under the same attacks.

    Args:
        margin: of the dense network on the clean images, see `clean_margins`.
        class_names: names of the classes; their numbers if left out.
        num_bins: groups of equal size, by margin, for the curves.

    Raises:
        UserError: if the tables are of other images or other attacks, or there is not one margin an
            image.
    """
    _check(dense, sparse, margin, num_bins)
    names = class_names or [str(k) for k in range(int(dense.label.max()) + 1)]

    def verdicts(before: np.ndarray, after: np.ndarray, what: str) -> Verdicts:
        foretold = None
        if margin is not None:
            foretold = foretold_by(margin[before], ~after[before], what, num_bins=num_bins)
        return _verdicts(dense, before, after, names, foretold)

    clean = verdicts(dense.clean_correct, sparse.clean_correct, "clean")
    attacked = bool(dense.by_attack)
    robust = verdicts(dense.robust, sparse.robust, "robust") if attacked else None
    return Flips(clean, robust)


@torch.no_grad()
def clean_margins(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, batch_size: int = 250
) -> Float[np.ndarray, " n"]:
    """Return the label's logit minus the largest other one; negative where the model is wrong.

    The model comes back as it was. An image whose logits are not finite has minus infinity.
    """
    device, found = device_of(model), [np.empty(0, np.float32)]
    with frozen(model):
        for start in range(0, len(x), batch_size):
            logits = model(x[start : start + batch_size].to(device))
            margins = -loss_margin(logits, y[start : start + batch_size].to(device))
            lost = ~logits.isfinite().all(dim=1)
            found.append(margins.masked_fill(lost, float("-inf")).float().cpu().numpy())
    return np.concatenate(found)


def foretold_by(
    margin: Float[np.ndarray, " m"], lost: Bool[np.ndarray, " m"], what: str, *, num_bins: int = 4
) -> Foretold:
    """Return how margins go with losses, among images that were right before.

    Args:
        margin: of each image.
        lost: whether it is wrong now.
        what: the kind of verdict, for the name of the curve.
        num_bins: groups of equal size; at most one an image.
    """
    kept = np.sort(margin[~lost])
    auc = None
    if len(kept) and lost.any():
        beaten = len(kept) - np.searchsorted(kept, margin[lost], side="right")
        tied = len(kept) - np.searchsorted(kept, margin[lost], side="left") - beaten
        auc = float((beaten + tied / 2).mean() / len(kept))
    correlation = None
    if auc is not None and np.ptp(margin) > 0:
        correlation = float(np.corrcoef(margin, lost)[0, 1])
    groups = np.array_split(np.argsort(margin, kind="stable"), max(1, min(num_bins, len(margin))))
    groups = [group for group in groups if len(group)]
    curve = Curve(
        f"{what} verdicts lost by margin",
        "clean margin of the dense network",
        [float(margin[group].mean()) for group in groups],
        [float(lost[group].mean()) for group in groups],
        "share lost",
    )
    return Foretold(auc, correlation, curve)


def _verdicts(
    table: Table,
    before: Bool[np.ndarray, " n"],
    after: Bool[np.ndarray, " n"],
    names: Sequence[str],
    foretold: Foretold | None,
) -> Verdicts:
    lost, gained = before & ~after, ~before & after
    kept, wrong = int((before & after).sum()), int((~before & ~after).sum())
    rows = []
    for label, name in enumerate(names):
        members = table.label == label
        num = int(members.sum())
        old, new = (float(v[members].mean()) if num else None for v in (before, after))
        difference = None if old is None or new is None else new - old
        row = {"name": name, "num": num, "dense": old, "sparse": new, "difference": difference}
        row |= {"lost": int(lost[members].sum()), "gained": int(gained[members].sum())}
        rows.append(row)
    return Verdicts(
        num_kept=kept,
        num_lost=int(lost.sum()),
        num_gained=int(gained.sum()),
        num_wrong=wrong,
        dense_accuracy=float(before.mean()),
        sparse_accuracy=float(after.mean()),
        difference=float(int(gained.sum()) - int(lost.sum())) / len(before),
        interval=paired_interval(kept, int(lost.sum()), int(gained.sum()), wrong),
        p_value=mcnemar(int(lost.sum()), int(gained.sum())),
        lost=table.index[lost],
        gained=table.index[gained],
        per_class=rows,
        foretold=foretold,
    )


def _check(dense: Table, sparse: Table, margin: np.ndarray | None, num_bins: int) -> None:
    same = np.array_equal(dense.index, sparse.index) and np.array_equal(dense.label, sparse.label)
    if not same:
        raise UserError(
            f"two networks are compared on the same images, but the evaluations are of "
            f"{len(dense.index)} and {len(sparse.index)} images that differ; evaluate both on one "
            "split with the same number of samples"
        )
    if list(dense.attacks) != list(sparse.attacks):
        raise UserError(
            f"two networks are compared under the same attacks, but the evaluations used "
            f"{', '.join(dense.by_attack) or 'none'} and {', '.join(sparse.by_attack) or 'none'}"
        )
    if margin is not None and margin.shape != dense.label.shape:
        raise UserError(f"{len(dense.label)} images need as many margins, got {margin.shape}")
    if num_bins < 1:
        raise UserError(f"num_bins must be at least 1, got {num_bins}")
