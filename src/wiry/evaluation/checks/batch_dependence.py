"""Does an answer depend on the other images of the batch? Then no result of an image is its own."""

import torch

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import answers, asked, clean_logits, is_random
from wiry.evaluation.subject import Finding, Subject

_TOLERANCE = 0.01  # of the largest logit; other orders of summation change a thousandth at most
_MIN_IMAGES = 4


@registry("check").register("batch-dependence")
def batch_dependence(subject: Subject) -> Finding | None:
    """Report answers that change when the same images come in smaller batches.

    Batch norm without running statistics does that, in evaluation mode too.
    """
    index, together = asked(subject), clean_logits(subject)
    if together is None or len(index) < _MIN_IMAGES or is_random(subject):
        return None
    even, odd = (answers(subject, subject.x[index[start::2]]) for start in (0, 1))
    if even is None or odd is None:
        return None
    apart = torch.empty_like(together)
    apart[0::2], apart[1::2] = even, odd
    finite = together.isfinite() & apart.isfinite()
    if not finite.any():
        return None
    largest = float((together - apart)[finite].abs().max())
    if largest <= _TOLERANCE * float(together[finite].abs().max()):
        return None
    changed = float((together.argmax(1) != apart.argmax(1)).float().mean())
    return Finding(
        "batch-dependence",
        "warning",
        f"Answers depend on the other images of the batch: in halves of it logits differ by up to "
        f"{largest:.3g} and the class of {changed:.1%} of {len(index)} images changes. Give batch "
        "norm running statistics (track_running_stats), or fix the statistics it uses.",
        {"largest_difference": largest, "changed": changed, "images": len(index)},
    )
