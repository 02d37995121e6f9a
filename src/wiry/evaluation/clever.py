"""CLEVER: an estimate of how far an image is from the decision boundary, without an attack.

The largest gradient norm of a margin in a ball is guessed from the largest ones among random
points, by extreme value theory; margin / norm is the score. **It is no bound**: a network whose
gradients vanish where it is sampled has a high score and may be broken nearby (Goodfellow 2018).
Bounds are in `wiry.bounds`, distances that attacks reach in `distance.py`.
"""

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.projections import Ball
from wiry.core.draws import Draws
from wiry.evaluation.judge import device_of
from wiry.evaluation.sampling import groups, pieces, repeated
from wiry.evaluation.weibull import fit_reverse_weibull

Targets = Literal["all", "second", "random", "least"]
Norm = Literal["linf", "l2", "l1"]

DUAL: dict[str, float] = {"linf": 1, "l2": 2, "l1": math.inf}
"""q of the gradient's norm by the norm of the ball."""

_TINY = 1e-12  # a network that is flat in the whole ball scores its radius


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """CLEVER scores of images, on the CPU.

    Attributes:
        score: the smallest over the targets; 0 where a target's logit is larger already.
        by_target: score of each target.
        targets: class of each column.
        constants: estimated local Lipschitz constant of each margin.
        fitted: whether it comes from a fit; where not, it is the largest sampled norm.
    """

    score: Float[Tensor, " n"]
    by_target: Float[Tensor, "n targets"]
    targets: Int[Tensor, "n targets"]
    constants: Float[Tensor, "n targets"]
    fitted: Bool[Tensor, "n targets"]


def clever(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Norm,
    radius: float,
    num_batches: int,
    num_points: int,
    draws: Draws,
    targets: Targets = "all",
    batch_size: int = 128,
) -> Scores:
    """Estimate the distance of each image to the nearest other class.

    The model is expected frozen and in eval mode, see `wiry.evaluation.judge.frozen`.

    Source: Weng et al. 2018, algorithms 1 and 2; `fit_reverse_weibull` says what differs there.
    Points are clipped to [0, 1] as in the published code. Differs: they are uniform in the ball,
    as in the paper, where the published code draws more near the centre.

    Args:
        y: class of each image whose margin is looked at.
        norm: of the ball; the gradient's norm is its dual.
        radius: of the ball, pixels in [0, 1]; no score is larger.
        num_batches: maxima that each fit sees.
        num_points: of which each is the maximum.
        draws: one stream an image.
        targets: "all" for the untargeted score; else the likeliest other class, a random one or
            the least likely.
        batch_size: points at once; the scores do not depend on it but for rounding.
    """
    device, parts = device_of(model), []
    for part, piece in groups(len(x), num_points, batch_size):
        images, labels = x[part].to(device), y[part].to(device)
        streams = Draws(draws.keys[part].to(device), draws.position)
        with torch.no_grad():
            logits = model(images)
        chosen = choose_targets(logits, labels, targets, streams)
        margins = logits.gather(1, labels[:, None]) - logits.gather(1, chosen)
        ball, counts = Ball(images, norm, radius), list(pieces(num_points, piece))
        maxima = [
            _largest_norms(model, ball, labels, chosen, streams, counts) for _ in range(num_batches)
        ]
        parts.append((margins.cpu(), chosen.cpu(), torch.stack(maxima, 2).cpu()))
    margins, chosen, maxima = (torch.cat(column) for column in zip(*parts, strict=True))
    return _scores(margins, chosen, maxima, radius)


def choose_targets(
    logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"], targets: Targets, draws: Draws
) -> Int[Tensor, "n targets"]:
    """Return the classes whose margins are looked at, never `y` itself."""
    others = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
    if targets == "all":
        return others.sort(1).values
    if targets == "random":
        place = (draws.uniform(1) * others.shape[1]).long()
        return others.sort(1).values.gather(1, place.to(others.device))
    return others[:, :1] if targets == "second" else others[:, -1:]


def margin_norms(
    model: nn.Module,
    points: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    targets: Int[Tensor, "n targets"],
    norm: str,
) -> Float[Tensor, "n targets"]:
    """Return the dual norm of the gradient of logit `y` minus each target's: one forward pass."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        logits = model(points)
        margins = logits.gather(1, y[:, None]) - logits.gather(1, targets)
        norms = []
        for column in margins.unbind(1):
            (gradient,) = torch.autograd.grad(column.sum(), points, retain_graph=True)
            norms.append(torch.linalg.vector_norm(gradient.flatten(1), DUAL[norm], dim=1))
    return torch.stack(norms, 1).detach()


def _largest_norms(
    model: nn.Module, ball: Ball, y: Tensor, targets: Tensor, draws: Draws, counts: list[int]
) -> Tensor:
    """Return the largest norm of each margin among the points of one batch, drawn in pieces."""
    largest = torch.zeros(targets.shape, device=targets.device)
    for count in counts:
        centres, own = repeated(ball.x, draws, count)
        points = Ball(centres, ball.norm, ball.eps).draw(own)
        copied = y.repeat_interleave(count), targets.repeat_interleave(count, dim=0)
        norms = margin_norms(model, points, *copied, ball.norm)
        norms = norms.view(len(y), count, -1).amax(1)
        largest = largest.maximum(norms.nan_to_num(nan=torch.inf))  # scores 0 then
    return largest


def _scores(margins: Tensor, targets: Tensor, maxima: Tensor, radius: float) -> Scores:
    fit = fit_reverse_weibull(maxima.flatten(0, 1))
    constants = fit.location.view_as(margins).to(margins)
    by_target = (margins / constants.clamp_min(_TINY)).clamp(0, radius)
    return Scores(by_target.amin(1), by_target, targets, constants, fit.fitted.view_as(targets))
