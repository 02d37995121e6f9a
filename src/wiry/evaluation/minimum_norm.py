"""How far the nearest misclassified image that a search finds is, for many images in batches.

Every such distance is an upper bound of the true one. The searches are in `wiry.attacks`; curves
are made of distances in `security_curve.py`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.minimum_norm import MinimumNorm, distances, rows
from wiry.evaluation.judge import buffers_kept, device_of, predict
from wiry.evaluation.security_curve import accuracy_at

Find = Callable[[nn.Module, Tensor, Tensor], MinimumNorm]
"""A search: network, images and labels of one batch to the nearest misclassified images."""

NUM_NEAREST = 16
"""Images kept for the report."""

_STRETCHES = (0.0, 1e-4, 1e-3, 1e-2)  # shares of the way beyond a point that does not fool again


def minimum_norms(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    find: Find,
    *,
    norm: str,
    batch_size: int,
) -> MinimumNorm:
    """Return what a search finds for images on the CPU, put to the model a second time.

    A point on the boundary itself may be on either side with the rounding of another batch. Where
    it does not fool again, it is moved a little further away; if a hundredth of the way does not
    help, nothing was found.
    """
    device, found = device_of(model), []
    with torch.enable_grad(), buffers_kept(model):
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            one = find(model, x[part].to(device), y[part].to(device))
            found.append((one.distance.cpu(), one.adversarial.cpu()))
    assert found, "no images"
    distance, adversarial = (torch.cat(parts) for parts in zip(*found, strict=True))
    left = distance.isfinite() & (distance > 0)
    for stretch in _STRETCHES:
        places = left.nonzero().squeeze(1)
        offset = (1 + stretch) * (adversarial[places] - x[places])
        point = (x[places] + offset).clamp(0, 1) if stretch else adversarial[places]
        fools = predict(model, point, batch_size=batch_size) != y[places]
        adversarial[places[fools]] = point[fools]
        distance[places[fools]] = distances(point[fools] - x[places[fools]], norm)
        left[places[fools]] = False
    distance[left] = torch.inf
    return MinimumNorm(distance, torch.where(rows(left), x, adversarial))


def distance_values(
    distance: Float[Tensor, " n"],
    correct: Bool[Tensor, " n"],
    *,
    norm: str,
    eps: float | None = None,
) -> dict[str, Any]:
    """Return what a measure says of distances: numbers that JSON can hold.

    `median_distance` is of the images that are right, None if most of them have none;
    `mean_distance` is of all images, wrong ones counting 0, which is the area under the security
    curve, None if one was not found. With `eps`, `accuracy_at_eps` is the curve's value there.
    """
    right = distance[correct]
    middle = float(right.quantile(0.5, interpolation="higher")) if len(right) else math.inf
    mean = float(torch.where(correct, distance, 0).double().mean())
    values: dict[str, Any] = {
        "norm": norm,
        "clean_accuracy": float(correct.double().mean()),
        "median_distance": middle if math.isfinite(middle) else None,
        "mean_distance": mean if math.isfinite(mean) else None,
    }
    if eps is not None:
        values |= {"eps": eps, "accuracy_at_eps": accuracy_at(distance, correct, eps)}
    return values | {"num_not_found": int(right.isinf().sum()), "num_samples": len(distance)}


def distance_arrays(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    found: MinimumNorm,
    *,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Return the distances and the right images that are nearest to the boundary, at most 16."""
    distance = torch.where(found.distance > 0, found.distance, torch.inf)  # 0: wrong when clean
    nearest = distance.argsort(stable=True)[:NUM_NEAREST]
    nearest = nearest[distance[nearest].isfinite()]
    adversarial = found.adversarial[nearest]
    return {
        "distance": found.distance.numpy(),
        "nearest_index": nearest.numpy(),
        "nearest_distance": distance[nearest].numpy(),
        "nearest_clean": (x[nearest] * 255).round().byte().numpy(),
        "nearest_adversarial": adversarial.half().numpy(),
        "nearest_label": y[nearest].numpy(),
        "nearest_clean_prediction": predict(model, x[nearest], batch_size=batch_size).numpy(),
        "nearest_adversarial_prediction": predict(
            model, adversarial, batch_size=batch_size
        ).numpy(),
    }
