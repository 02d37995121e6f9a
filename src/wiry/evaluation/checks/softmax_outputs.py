"""Does the network return probabilities in place of logits? Attacks see little through them."""

import torch
from torch import Tensor

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import asked, clean_logits
from wiry.evaluation.subject import Finding, Subject

_TOLERANCE = 1e-4  # rounding of a sum over a thousand classes in float32


@registry("check").register("softmax-outputs")
def softmax_outputs(subject: Subject) -> Finding | None:
    """Report outputs that are probabilities (they hide gradients) or their logarithms."""
    logits = clean_logits(subject)
    if logits is None or subject.num_classes < 2:
        return None
    logits = logits[logits.isfinite().all(1)]
    if len(logits) == 0:
        return None
    seen = {"images": len(asked(subject))}
    if _are_probabilities(logits):
        return Finding(
            "softmax-outputs",
            "warning",
            "The network returns probabilities: its rows are in [0, 1] and sum to 1. Their "
            "gradients vanish where it is sure, so attacks look weaker than they are; return "
            "logits, without the softmax.",
            {"kind": "probabilities", **seen},
        )
    sums = logits.logsumexp(1)
    if bool((logits <= _TOLERANCE).all() and (sums.abs() <= _TOLERANCE).all()):
        return Finding(
            "softmax-outputs",
            "note",
            "The network returns logarithms of probabilities. Losses here take them like logits; "
            "only logits as such (their size, distances between them) mean something else.",
            {"kind": "log-probabilities", **seen},
        )
    return None


def _are_probabilities(logits: Tensor) -> bool:
    inside = (logits >= -_TOLERANCE) & (logits <= 1 + _TOLERANCE)
    sums = logits.sum(1)
    return bool(inside.all()) and torch.allclose(sums, torch.ones_like(sums), atol=_TOLERANCE)
