"""Does the network answer the same twice? A search cannot climb what moves under it."""

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import asked, clean_logits, is_random, second_logits
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("randomness")
def randomness(subject: Subject) -> Finding | None:
    """Report answers that differ from pass to pass, on the same batch in evaluation mode."""
    first, second = clean_logits(subject), second_logits(subject)
    if first is None or second is None or not is_random(subject):
        return None
    difference = (first - second).abs()
    largest = float(difference[difference.isfinite()].max())
    changed = float((first.argmax(1) != second.argmax(1)).float().mean())
    averaged = any(getattr(attack, "num_passes", 1) > 1 for attack in subject.attacks)
    what = (
        f"The network is random: asked twice in evaluation mode, logits differ by up to "
        f"{largest:.3g} and the class of {changed:.1%} of {len(asked(subject))} images changes."
    )
    advice = (
        "The attacks averaged several passes, but an image counts as it was answered once."
        if averaged
        else "Attacks that look once are misled; evaluate with version 'rand', which averages."
    )
    return Finding(
        "randomness",
        "note" if averaged else "warning",
        f"{what} {advice}",
        {"largest_difference": largest, "changed": changed, "images": len(asked(subject))},
    )
