"""Does the network tell images apart at all? A constant answer is robust and worth nothing."""

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import asked, clean_logits
from wiry.evaluation.subject import Finding, Subject

_MIN_IMAGES = 10  # with fewer, a fair network may be right on none


@registry("check").register("chance")
def chance(subject: Subject) -> Finding | None:
    """Report a network that answers one class only, or is right no more often than by guessing."""
    num = len(subject.x)
    if num < _MIN_IMAGES or subject.num_classes < 2 or len(subject.y.unique()) < 2:
        return None
    accuracy, guess = float(subject.clean_correct.float().mean()), 1 / subject.num_classes
    only = _only_class(subject)
    if only is not None:
        return Finding(
            "chance",
            "note",
            f"The network says class {only} of every image, so what it stands under attack is no "
            "robustness. Its training collapsed, or too little of it was kept.",
            {"accuracy": accuracy, "class": only, "images": num},
        )
    if accuracy > guess:
        return None
    return Finding(
        "chance",
        "note",
        f"The network is right on {accuracy:.1%} of the clean images, and guessing among "
        f"{subject.num_classes} classes on {guess:.1%}: it tells nothing apart. Check that labels "
        "and images are those it was trained on.",
        {"accuracy": accuracy, "guessing": guess, "images": num},
    )


def _only_class(subject: Subject) -> str | None:
    """Return the name of the only class that is ever said."""
    if subject.table is not None:
        said = {int(label) for label in subject.table.prediction}
    else:
        logits = clean_logits(subject)
        if logits is None or len(asked(subject)) < _MIN_IMAGES:
            return None
        said = set(logits.argmax(1).tolist())
    if len(said) != 1:
        return None
    (label,) = said
    return subject.class_names[label] if 0 <= label < len(subject.class_names) else None
