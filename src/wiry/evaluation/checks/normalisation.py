"""Was the network trained on images of another scale? Then normalisation is missing from it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.registry import registry
from wiry.evaluation.checks.probe import answers, asked, clean_logits, in_range
from wiry.evaluation.subject import Finding, Subject

_GAIN = 0.15  # of accuracy; networks that hold their normalisation lose by another one
_SIGMAS = 3  # the images that change must be more than chance, with eight scales tried
_CONSTANTS = {
    3: {
        "the mean and deviation of CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "the mean and deviation of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    },
    1: {
        "the mean and deviation of MNIST": ((0.1307,), (0.3081,)),
        "the mean and deviation of Fashion-MNIST": ((0.2860,), (0.3530,)),
    },
}


@registry("check").register("normalisation")
def normalisation(subject: Subject) -> Finding | None:
    """Report a network that is much better on images of a scale other than [0, 1]."""
    logits = clean_logits(subject)
    if logits is None or not in_range(subject):
        return None
    index = asked(subject)
    x, y = subject.x[index], subject.y[index]
    before, best = logits.argmax(1) == y, (0, "", torch.empty(0))
    if bool(before.all()):
        return None
    for name, scaled in scales(subject, x).items():
        found = answers(subject, scaled)
        if found is None:
            continue
        after = found.argmax(1) == y
        gain = int(after.sum()) - int(before.sum())
        changed = int((after != before).sum())
        if gain >= _SIGMAS * math.sqrt(changed) and gain > best[0]:
            best = (gain, name, after)
    gain, name, after = best
    if gain < _GAIN * len(y) or gain == 0:
        return None
    low, high = float(before.float().mean()), float(after.float().mean())
    return Finding(
        "normalisation",
        "warning",
        f"With images scaled by {name} the network is right on {high:.1%} in place of {low:.1%} "
        f"of {len(y)} images: it was trained with a normalisation that it does not hold. Make "
        "that its first layer, so that it takes images in [0, 1] and eps keeps its meaning.",
        {"scale": name, "accuracy": low, "accuracy_scaled": high, "images": len(y)},
    )


def scales(subject: Subject, x: Float[Tensor, "k c h w"]) -> dict[str, Float[Tensor, "k c h w"]]:
    """Return images on the scales that networks are commonly trained on, by name."""
    found = {"2x - 1": 2 * x - 1, "x * 255": 255 * x}
    dims = (0, 2, 3)
    mean, deviation = x.mean(dims, keepdim=True), x.std(dims, correction=0, keepdim=True)
    found["the images' own mean and deviation"] = (x - mean) / deviation.clamp_min(1e-3)
    for name, constants in _CONSTANTS.get(x.shape[1], {}).items():
        mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in constants)
        found[name] = (x - mean) / deviation
    return found
