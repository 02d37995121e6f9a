"""Are all logits of the clean images finite? Where they are not, the image counts as wrong."""

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import clean_logits
from wiry.evaluation.judge import NO_CLASS
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("non-finite")
def non_finite(subject: Subject) -> Finding | None:
    """Report clean images for which a logit is infinite or no number."""
    if subject.table is not None:
        wrong, total = int((subject.table.prediction == NO_CLASS).sum()), len(subject.x)
    else:
        logits = clean_logits(subject)
        if logits is None:
            return None
        wrong, total = int((~logits.isfinite().all(1)).sum()), len(logits)
    if not wrong:
        return None
    return Finding(
        "non-finite",
        "warning",
        f"Logits of {wrong} of {total} clean images are infinite or no numbers; these images "
        "count as wrong. Look for an overflow in the network, such as weights that diverged.",
        {"share": wrong / total, "images": total},
    )
