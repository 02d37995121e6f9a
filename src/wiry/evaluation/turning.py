"""Where a curve of robustness against sparsity turns, and whether it does, by bootstrap.

Seeds and images are both drawn anew, images together for all points and seeds, because all networks
saw the same ones. Pure arithmetic on values by image; drawing the curve is for others.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class TurningPoint:
    """The highest point of a curve, against its first point and its last.

    Attributes:
        best: index of the point with the highest mean.
        interval: indices between which the highest point of 95 % of the resamples lies.
        gain: best minus first point.
        gain_interval: 95 % of the resamples' gains, each at its own highest point: never below 0.
        held_out_gain: mean over seeds of value minus first point, at the point that the other
            seeds say is the highest. Not flattered by the choice, and below 0 where there is no
            gain. NaN with one seed.
        held_out_range: the smallest and the largest of these.
        fall: best minus last point.
        fall_interval: 95 % of the resamples' falls, each from its own highest point.
        share_inside: share of the resamples whose highest point is neither the first nor the last.
    """

    best: int
    interval: tuple[int, int]
    gain: float
    gain_interval: tuple[float, float]
    held_out_gain: float
    held_out_range: tuple[float, float]
    fall: float
    fall_interval: tuple[float, float]
    share_inside: float

    def is_inverted_u(self, least: float = 0.0) -> bool:
        """Say whether the curve rises above its first point and falls again, beyond its noise.

        That is: 97.5 % of the resamples turn inside, every seed gains more than `least` at the
        point that the others choose, and the fall's interval is above `least`.
        """
        rises = self.held_out_range[0] > least
        return self.share_inside >= 0.975 and rises and self.fall_interval[0] > least


def turning_point(
    values: Float[np.ndarray, "points seeds images"],
    *,
    generator: np.random.Generator,
    num_resamples: int = 2000,
) -> TurningPoint:
    """Find the highest point of a curve and how sure its place and height are.

    The first point is the one without sparsity, the last the sparsest. With few seeds the spread
    over seeds is known poorly, and a bootstrap over three of them is too narrow; so the held-out
    gains are given too.

    Args:
        values: what was measured of each image, by point and seed; 0 and 1 for an accuracy.

    Raises:
        ValueError: for fewer than three points, or no seed or image.
    """
    num_points, num_seeds, num_images = values.shape
    if num_points < 3 or num_seeds < 1 or num_images < 1:
        raise ValueError(
            f"a turn needs three points, a seed and an image, got values of shape {values.shape}"
        )
    by_seed = values.mean(axis=2, dtype=np.float64)
    mean = by_seed.mean(axis=1)
    seeds = generator.multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=num_resamples)
    images = generator.multinomial(num_images, [1 / num_images] * num_images, size=num_resamples)
    flat = values.reshape(-1, num_images).astype(np.float32)
    resampled = (flat @ images.T.astype(np.float32)).reshape(num_points, num_seeds, -1)
    means = np.einsum("psr,rs->pr", resampled, seeds) / (num_seeds * num_images)
    highest, best = means.argmax(axis=0), int(mean.argmax())
    top = means.max(axis=0)
    held_out = _held_out_gains(by_seed)
    return TurningPoint(
        best=best,
        interval=(int(_quantiles(highest)[0]), int(np.ceil(_quantiles(highest)[1]))),
        gain=float(mean[best] - mean[0]),
        gain_interval=_quantiles(top - means[0]),
        held_out_gain=float(np.mean(held_out)),
        held_out_range=(float(np.min(held_out)), float(np.max(held_out))),
        fall=float(mean[best] - mean[-1]),
        fall_interval=_quantiles(top - means[-1]),
        share_inside=float(((highest > 0) & (highest < num_points - 1)).mean()),
    )


def _held_out_gains(by_seed: Float[np.ndarray, "points seeds"]) -> list[float]:
    """Return each seed's gain at the point that the mean of the other seeds chooses."""
    num_seeds = by_seed.shape[1]
    if num_seeds == 1:
        return [float("nan")]
    gains = []
    for seed in range(num_seeds):
        chosen = int(np.delete(by_seed, seed, axis=1).mean(axis=1).argmax())
        gains.append(float(by_seed[chosen, seed] - by_seed[0, seed]))
    return gains


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
