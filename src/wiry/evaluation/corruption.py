"""What a network answers to common corruptions, and its mean corruption error.

The corruptions are `wiry.data.corruptions`; the measure that users name is `measures.corruptions`.
Host memory holds one batch of one corruption at one severity.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.data.corruptions import corrupt
from wiry.data.corruptions.official import OfficialFiles
from wiry.evaluation.judge import predict

Source = Callable[[str, int, int, int], Tensor]
"""Corruption, severity, first image and the one after the last -> the corrupted images."""

BASELINE = "corruption_baseline.json"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Errors of a network that others are measured against.

    Attributes:
        what: the network and how it was measured, in a sentence.
        class_names: of the data it is for.
        shape: channels, height and width of an image.
        clean_error: on the images without corruption.
        error: corruption -> share of wrong answers at severity 1 to 5.
    """

    what: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    clean_error: float
    error: dict[str, tuple[float, ...]]


def made_here(x: Float[Tensor, "n c h w"], seed: int) -> Source:
    """Return the source that corrupts these images by itself."""

    def images(name: str, severity: int, start: int, stop: int) -> Tensor:
        index = torch.arange(start, min(stop, len(x)))
        return corrupt(x[start:stop], name, severity, seed=seed, index=index)

    return images


def published(
    files: OfficialFiles,
    names: list[str],
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
) -> Source:
    """Return the source that reads published files, checked to be of these very images.

    Raises:
        UserError: if there are fewer published images, or their labels are others.
    """
    if len(y) > len(files.labels) or not torch.equal(files.labels[: len(y)], y.cpu()):
        raise UserError(
            f"{files.folder} has corrupted versions of {len(files.labels)} images, and their "
            f"labels are not those of the {len(y)} images of this evaluation; the published files "
            "are for the test split, in its order"
        )
    files.check(names, tuple(x.shape[1:]))
    return files.images


def corrupted_verdicts(
    model: nn.Module,
    y: Int[Tensor, " n"],
    source: Source,
    *,
    names: Sequence[str],
    severities: Sequence[int],
    batch_size: int,
) -> Bool[np.ndarray, "n names severities"]:
    """Return which images a network has right under each corruption at each severity."""
    right = np.zeros((len(y), len(names), len(severities)), dtype=bool)
    for i, name in enumerate(names):
        for j, severity in enumerate(severities):
            for start in range(0, len(y), batch_size):
                stop = min(start + batch_size, len(y))
                images = source(name, severity, start, stop)
                prediction = predict(model, images, batch_size=batch_size)
                right[start:stop, i, j] = (prediction == y[start:stop].cpu()).numpy()
    return right


def mean_corruption_error(
    error: Float[np.ndarray, "names severities"],
    names: Sequence[str],
    severities: Sequence[int],
    baseline: Baseline,
) -> float:
    """Return the errors over those of the baseline; 1 is as good as the baseline, less is better.

    Source: Hendrycks and Dietterich 2019, section 4.1: errors are added over severities and divided
    by the baseline's, then averaged over corruptions. Differs: their baseline is AlexNet on
    ImageNet; none is published for CIFAR-10, so it is a network of wiry's.
    """
    ratios = []
    for row, name in zip(error, names, strict=True):
        divisor = sum(baseline.error[name][severity - 1] for severity in severities)
        ratios.append(float(row.sum()) / divisor)
    return sum(ratios) / len(ratios)


def stored_baseline() -> Baseline:
    """Return the baseline that comes with the package; `benchmarks/corruption_baseline.py` made it.

    It is for CIFAR-10 and for corruptions made here, not for the published files.
    """
    data = json.loads(resources.files("wiry.evaluation").joinpath(BASELINE).read_text("utf-8"))
    return baseline_from(data)


def baseline_from(data: dict[str, Any]) -> Baseline:
    """Return the baseline that plain data describes."""
    channels, height, width = data["shape"]
    return Baseline(
        what=data["what"],
        class_names=tuple(data["class_names"]),
        shape=(channels, height, width),
        clean_error=data["clean_error"],
        error={name: tuple(row) for name, row in data["error"].items()},
    )


def unfit(
    baseline: Baseline,
    names: Sequence[str],
    *,
    class_names: Sequence[str],
    shape: Sequence[int],
    is_published: bool,
) -> str | None:
    """Return why errors cannot be divided by a baseline's; None if they can."""
    if tuple(class_names) != baseline.class_names or tuple(shape) != baseline.shape:
        return "there is no baseline for this data set"
    if is_published:
        return "the baseline was measured on corruptions made here, not on the published files"
    if unknown := [name for name in names if name not in baseline.error]:
        return f"the baseline has no {', '.join(unknown)}"
    return None
