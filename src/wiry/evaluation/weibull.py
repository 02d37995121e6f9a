"""The right end of a reverse Weibull distribution, fitted to maxima by maximum likelihood.

Maxima of many draws of a bounded quantity follow a reverse Weibull distribution, whose location is
the bound (Fisher, Tippett and Gnedenko). All samples are fitted at once. Where the samples come
from is not known here.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SHAPE_PENALTY = 0.01
"""Factor of shape^2 in the likelihood of the reference code, against shapes that run away."""

LEAST_P_VALUE = 0.001
"""A fit that a Kolmogorov-Smirnov test finds less likely is none (reference code)."""

_CONSTANT = 1e-5  # range over maximum: what gradients of a linear function differ by is rounding
_NUM_LOCATIONS = 40  # of a grid on a log scale, each a factor 1.6 from the next
_NEAREST, _FURTHEST = 1e-4, 1e4  # location minus maximum, in ranges of the sample
_LARGEST_SHAPE = 1e3
_STEPS = 30  # of a bisection on a log scale: log(1e3) / 2^30 is rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """Fitted reverse Weibull distributions, one a row.

    Attributes:
        location: the right end; the sample's maximum where there is no fit.
        shape: 0 where there is no fit.
        scale: 0 where there is no fit.
        p_value: of a Kolmogorov-Smirnov test of the fit; 0 where there is none.
        fitted: whether the location is a fit.
    """

    location: Float[Tensor, " n"]
    shape: Float[Tensor, " n"]
    scale: Float[Tensor, " n"]
    p_value: Float[Tensor, " n"]
    fitted: Bool[Tensor, " n"]


def fit_reverse_weibull(sample: Float[Tensor, "n maxima"]) -> Fit:
    """Fit location, shape and scale to each row.

    The likelihood is maximised over the location on a fine grid that is then refined; for each
    location the best shape is the root of a falling function and the best scale is known. No fit:
    rows that are constant up to rounding, and fits with a p-value below `LEAST_P_VALUE`.

    Source: Weng et al. 2018 (CLEVER), section 4 and the published code (penalty, test, fallback).
    Differs: the published code runs a simplex search from seven initial shapes and keeps the fit
    with the best p-value; here the likelihood decides and there is nothing to start from. Shapes
    are at least 1: below it the likelihood has no maximum (Smith 1985).
    """
    x = sample.double()
    top, width = x.amax(1), x.amax(1) - x.amin(1)
    constant = (width <= _CONSTANT * top.abs()) | ~x.isfinite().all(1)
    scaled = (top[:, None] - x) / torch.where(constant, 1.0, width)[:, None]  # 0 at the maximum
    scaled = scaled.masked_fill(constant[:, None], 1.0)  # anything that can be fitted
    offset = _best_offset(scaled)
    shape, scale, _ = _given_offset(scaled, offset[:, None])
    shape, scale = shape[:, 0], scale[:, 0]
    p_value = _p_value(scaled + offset[:, None], shape, scale).masked_fill(constant, 0.0)
    fitted = p_value >= LEAST_P_VALUE
    zero = torch.zeros_like(top)
    return Fit(
        location=torch.where(fitted, top + offset * width, top),
        shape=torch.where(fitted, shape, zero),
        scale=torch.where(fitted, scale * width, zero),
        p_value=p_value,
        fitted=fitted,
    )


def _best_offset(scaled: Tensor) -> Tensor:
    """Return the most likely location minus maximum of each row: a grid, then a finer one, ..."""
    low = torch.full((len(scaled), 1), _NEAREST, dtype=scaled.dtype, device=scaled.device).log()
    high = torch.full_like(low, _FURTHEST).log()
    steps = torch.linspace(0, 1, _NUM_LOCATIONS, dtype=scaled.dtype, device=scaled.device)
    best = low
    for _ in range(3):
        grid = low + (high - low) * steps
        parts = [
            _given_offset(rows, part.exp())[2]
            for rows, part in zip(scaled.split(16), grid.split(16), strict=True)
        ]
        place = torch.cat(parts).argmax(1, keepdim=True)
        best = grid.gather(1, place)
        low = grid.gather(1, (place - 1).clamp_min(0))
        high = grid.gather(1, (place + 1).clamp_max(_NUM_LOCATIONS - 1))
    return best.squeeze(1).exp()


def _given_offset(scaled: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return shape, scale and penalised log-likelihood for each row and offset (n, k)."""
    logs = (scaled[:, None] + offset[:, :, None]).log()  # n, k, maxima
    count, total = logs.shape[2], logs.sum(2)
    largest = logs.amax(2, keepdim=True)
    logs = logs - largest  # of t / max t: no power of it overflows
    low = torch.ones_like(offset)
    high = torch.full_like(offset, _LARGEST_SHAPE)
    for _ in range(_STEPS):
        shape = (low * high).sqrt()
        power = (shape[:, :, None] * logs).exp()
        mean_log = (power * logs).sum(2) / power.sum(2) + largest[:, :, 0]
        slope = count / shape - count * mean_log + total - 2 * SHAPE_PENALTY * shape
        low, high = torch.where(slope > 0, shape, low), torch.where(slope > 0, high, shape)
    shape = (low * high).sqrt()
    log_mean = (shape[:, :, None] * logs).exp().mean(2).log() + shape * largest[:, :, 0]
    likelihood = count * (shape.log() - log_mean - 1) + (shape - 1) * total
    return shape, (log_mean / shape).exp(), likelihood - SHAPE_PENALTY * shape**2


def _p_value(distance: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    """Return the Kolmogorov-Smirnov p-value of Weibull fits to distances from the location."""
    from scipy.stats import kstwo  # slow to import

    count = distance.shape[1]
    below = -torch.expm1(-((distance.sort(1).values / scale[:, None]) ** shape[:, None]))
    ranks = torch.arange(1, count + 1, dtype=below.dtype, device=below.device) / count
    largest = torch.maximum((ranks - below).amax(1), (below - ranks + 1 / count).amax(1))
    return torch.as_tensor(kstwo.sf(largest.cpu().numpy(), count)).to(distance)
