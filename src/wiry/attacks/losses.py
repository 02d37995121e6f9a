"""What attacks maximise: one value per image from its logits alone.

Each loss takes logits and a reference (labels, or the clean probabilities for "kl") and returns one
value per image, so that the gradient of the sum is each image's own gradient.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LossName = Literal["ce", "margin", "dlr", "kl"]

MIN_DLR_CLASSES = 4
"""With fewer classes the difference-of-logits ratio degenerates; the margin takes its place."""

_TINY = 1e-12  # keeps a ratio of equal logits finite


def cross_entropy(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the cross-entropy of each image."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the largest other logit minus the label's; positive where the image is misclassified.

    Source: Carlini and Wagner 2017, f_6 without its bound.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], float("-inf")).amax(1) - own


def dlr(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the difference-of-logits ratio, which no scaling or shift of the logits changes.

    Source: Croce and Hein 2020, eq. 6. Differs: the margin below 4 classes.
    """
    if logits.shape[1] < MIN_DLR_CLASSES:
        return margin(logits, y)
    largest = logits.topk(3, dim=1).values
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + _TINY)


def targeted_dlr(
    logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"], target: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Return the targeted difference-of-logits ratio.

    Source: Croce and Hein 2020, eq. 7. Differs: target logit minus own below 4 classes.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    wanted = logits.gather(1, target[:, None]).squeeze(1)
    if logits.shape[1] < MIN_DLR_CLASSES:
        return wanted - own
    largest = logits.topk(4, dim=1).values
    scale = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return (wanted - own) / (scale + _TINY)


def kl(
    logits: Float[Tensor, "n classes"], clean: Float[Tensor, "n classes"]
) -> Float[Tensor, " n"]:
    """Return KL(clean || prediction) of each image; `clean` holds probabilities.

    Source: Zhang et al. 2019 (TRADES), the inner maximisation of eq. 5.
    """
    # written out: the function of torch cannot be batched over networks
    own = clean * clean.clamp_min(torch.finfo(clean.dtype).tiny).log()
    return (own - clean * logits.log_softmax(1)).sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "kl": kl,
}
