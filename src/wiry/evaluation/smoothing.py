"""Randomized smoothing: what a network says of an image under Gaussian noise, with a certificate.

The smoothed classifier returns the class that the network returns most often on noisy copies. Its
answer is certified in an l2 ball, whatever the network is, except with probability alpha. It is
another classifier than the network itself: one that was never trained on noise does badly here and
may still be robust. Noisy images are not clipped to [0, 1]; the certificate needs that.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.draws import Draws
from wiry.evaluation.judge import NO_CLASS, device_of
from wiry.evaluation.sampling import groups, pieces, repeated


@dataclasses.dataclass(frozen=True, eq=False)
class Smoothed:
    """Answers of a smoothed classifier, on the CPU.

    Attributes:
        prediction: class, or `NO_CLASS` where it abstains.
        radius: l2 radius within which the class is certified, pixels in [0, 1]; 0 if it abstains.
        lower: lower confidence bound of the class's probability under noise.
    """

    prediction: Int[Tensor, " n"]
    radius: Float[Tensor, " n"]
    lower: Float[Tensor, " n"]

    @property
    def abstained(self) -> Bool[Tensor, " n"]:
        """Where no class is certain enough to be more likely than all others together."""
        return self.prediction == NO_CLASS


def certify_smoothed(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    *,
    sigma: float,
    draws: Draws,
    num_selection: int = 100,
    num_estimation: int = 100_000,
    alpha: float = 0.001,
    batch_size: int = 128,
) -> Smoothed:
    """Certify the smoothed classifier around each image.

    The model is expected frozen and in eval mode, see `wiry.evaluation.judge.frozen`.

    Source: Cohen et al. 2019, figure 1 (Certify) and theorem 1; the defaults are theirs. Noisy
    copies with a logit that is not finite count for no class.

    Args:
        sigma: standard deviation of the noise, pixels in [0, 1].
        draws: one stream an image.
        num_selection: noisy copies that choose the class.
        num_estimation: further ones that bound its probability; few of them cap the radius, see
            `largest_radius`.
        alpha: probability that the certificate of one image is wrong.
        batch_size: noisy copies at once; the answers do not depend on it but for rounding.
    """
    device, parts = device_of(model), [(torch.empty(0, dtype=torch.long),) * 2]
    for part, piece in groups(len(x), max(num_selection, num_estimation), batch_size):
        images = x[part].to(device)
        streams = Draws(draws.keys[part].to(device), draws.position)
        first = noisy_counts(model, images, sigma, streams, num_selection, piece)
        second = noisy_counts(model, images, sigma, streams, num_estimation, piece)
        best = first.argmax(1, keepdim=True)
        parts.append((best.squeeze(1).cpu(), second.gather(1, best).squeeze(1).cpu()))
    best, hits = (torch.cat(column) for column in zip(*parts, strict=True))
    lower = clopper_pearson_lower(hits, num_estimation, alpha)
    certain = lower > 0.5
    radius = sigma * torch.special.ndtri(torch.where(certain, lower, 0.5))
    return Smoothed(best.masked_fill(~certain, NO_CLASS), radius, lower)


@torch.no_grad()
def noisy_counts(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    sigma: float,
    draws: Draws,
    num_points: int,
    piece: int,
) -> Int[Tensor, "n classes"]:
    """Return how often the model says each class of noisy copies of each image.

    Args:
        draws: one stream an image; moves on.
        piece: copies of each image at once.
    """
    counts = None
    for count in pieces(num_points, piece):
        copies, streams = repeated(x, draws, count)
        logits = model(copies + sigma * streams.normal(*x.shape[1:]).to(copies))
        votes = nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        votes = votes * logits.isfinite().all(1, keepdim=True)
        votes = votes.view(len(x), count, -1).sum(1)
        counts = votes if counts is None else counts + votes
    assert counts is not None, "at least one point"
    return counts


def clopper_pearson_lower(hits: Int[Tensor, " n"], num: int, alpha: float) -> Float[Tensor, " n"]:
    """Return the exact lower confidence bound of a probability, with error probability alpha.

    Source: Clopper and Pearson 1934, one-sided: the p at which `hits` or more have chance alpha.
    """
    from scipy.special import betaincinv

    found = hits.double()
    bound = betaincinv(found.clamp_min(1).numpy(), (num - found + 1).numpy(), alpha)
    return torch.as_tensor(bound).masked_fill(found == 0, 0.0)


def largest_radius(sigma: float, num_estimation: int, alpha: float) -> float:
    """Return the radius where all noisy copies agree: no certificate is larger."""
    lower = clopper_pearson_lower(torch.tensor([num_estimation]), num_estimation, alpha)
    return sigma * max(0.0, float(torch.special.ndtri(lower)))


def certified_accuracy(
    found: Smoothed, y: Int[Tensor, " n"], radii: Float[Tensor, " k"]
) -> Float[Tensor, " k"]:
    """Return the share of images whose true class is certified within each radius."""
    right = found.prediction == y
    return (right & (found.radius >= radii[:, None])).double().mean(1)
