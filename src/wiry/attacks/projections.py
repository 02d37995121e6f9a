"""Balls around images: random points in them, steepest steps, and the way back into them.

Everything is per image. Points are changed in place, because training calls this on every batch.
Which loss is climbed, and how often, is for the attacks.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wiry.core.draws import Draws

_TINY = 1e-12  # a zero gradient stays zero when it is normalised
_ROUNDING = 1e-6  # pixels; x + (1 - x) may fall short of 1 by less
_MARGIN = 1e-6  # share of the radius left to rounding
_ULP = 2e-7  # of float32: what one entry's share of a threshold cannot say
_MAX_LOOKS = 60  # at a length, for the l1 projection; a handful is usual
_L1_SHARE = 0.01  # share of the entries that one l1 step moves


class Ball:
    """The images within `eps` of `x` in `norm` and inside [0, 1].

    Args:
        x: the centres.
        norm: "linf", "l2" or "l1".
        eps: radius, in pixels scaled to [0, 1].
    """

    def __init__(self, x: Float[Tensor, "n c h w"], norm: str, eps: float) -> None:
        self.x, self.norm, self.eps = x, norm, eps
        if norm == "linf":
            self.lower, self.upper = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)

    def select(self, keep: Bool[Tensor, " n"] | Int[Tensor, " k"]) -> "Ball":
        """Return the balls of some of the images."""
        return Ball(self.x[keep], self.norm, self.eps)

    def draw(self, generator: torch.Generator | Draws) -> Float[Tensor, "n c h w"]:
        """Draw a uniform point of each ball, then clip it to [0, 1]."""
        x = self.x
        if self.norm == "linf":
            offset = uniform(x.shape, x, generator).mul_(2 * self.eps).sub_(self.eps)
        elif self.norm == "l2":
            offset = normal(x.shape, x, generator)
            radius = uniform((len(x),), x, generator) ** (1 / x[0].numel())
            offset.mul_(_rows(self.eps * radius / lengths(offset, "l2").clamp_min(_TINY)))
        else:
            # exponential variables, one more than there are entries, over their sum are uniform
            offset = uniform(x.shape, x, generator).clamp_min_(_TINY).log_().neg_()
            slack = uniform((len(x),), x, generator).clamp_min_(_TINY).log_().neg_()
            offset.mul_(_rows(self.eps / (lengths(offset, "l1") + slack)))
            offset.mul_(uniform(x.shape, x, generator).sub_(0.5).sign_())
        return self.project_(x + offset)  # in the order of memory that x has

    @torch.no_grad()
    def step_(
        self,
        point: Float[Tensor, "n c h w"],
        gradient: Float[Tensor, "n c h w"],
        size: float | Float[Tensor, " n"],
    ) -> Float[Tensor, "n c h w"]:
        """Move each point a step of length `size` uphill and back into its ball.

        Both tensors are changed in place. In l1 the step moves the 1 % of the entries (at least
        one) with the largest gradient among those that can still move towards it.
        """
        if self.norm == "linf":
            direction = gradient.sign_()
        elif self.norm == "l2":
            direction = gradient.mul_(_rows(1 / lengths(gradient, "l2").clamp_min(_TINY)))
        else:
            direction = _sparse_direction(gradient, point)
        if isinstance(size, Tensor):
            point.add_(direction.mul_(_rows(size)))
        else:
            point.add_(direction, alpha=size)
        return self.project_(point)

    @torch.no_grad()
    def project_(self, point: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Bring points back into their ball and into [0, 1], in place.

        Exact for linf and l1. In l2 the ball comes first and clipping second, which never leaves
        the ball. In l1 and l2 the radius is smaller by a millionth, which is left to rounding.
        """
        if self.norm == "linf":
            return point.clamp_(self.lower, self.upper)
        offset, radius = point.sub_(self.x), self.eps * (1 - _MARGIN)
        if self.norm == "l2":
            offset.mul_(_rows((radius / lengths(offset, "l2").clamp_min(_TINY)).clamp_(max=1)))
        else:
            offset.copy_(project_l1(offset, self.x, radius))
        return point.add_(self.x).clamp_(0, 1)


def lengths(offset: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """Return the length of each image's offset."""
    every = tuple(range(1, offset.dim()))
    if norm == "linf":  # several times faster than the norm of this order
        return offset.abs().amax(every)
    return torch.linalg.vector_norm(offset, {"l2": 2, "l1": 1}[norm], dim=every)


def rows_of(images: Float[Tensor, "n c h w"], like: Tensor) -> Float[Tensor, "n d"]:
    """Return images as rows, in the order in which the memory of `like` has its entries."""
    if like.is_contiguous():
        return images.reshape(len(images), -1)
    return images.permute(0, 2, 3, 1).reshape(len(images), -1)


def images_of(rows: Float[Tensor, "n d"], like: Float[Tensor, "n c h w"]) -> Tensor:
    """Return the images whose rows these are."""
    if like.is_contiguous():
        return rows.view_as(like)
    _, c, h, w = like.shape
    return rows.view(-1, h, w, c).permute(0, 3, 1, 2)


def project_l1(
    offset: Float[Tensor, "n c h w"],
    x: Float[Tensor, "n c h w"],
    eps: float | Float[Tensor, "n 1"],
) -> Float[Tensor, "n c h w"]:
    """Return the nearest offset with l1 length at most `eps` that keeps `x + offset` in [0, 1].

    The answer is sign(u) * clip(|u| - t, 0, room) with the smallest t >= 0 that fits. The length is
    piecewise linear in t and falls, so t is found by Newton's method between two bounds, which
    takes a few passes over the entries where sorting them takes as long as a small network.
    Source: Croce and Hein 2021 ("Mind the box"), proposition 2.1.
    """
    flat, centre = offset.flatten(1), x.flatten(1)
    size = flat.abs()
    room = torch.where(flat > 0, 1 - centre, centre).clamp_min_(0)
    low = size.new_zeros(len(size), 1)  # t lies between the two
    high = size.amax(1, keepdim=True)
    threshold = low
    for look in range(1, _MAX_LOOKS + 1):
        left = (size - threshold).clamp_min_(0)
        excess = left.minimum(room).sum(1, keepdim=True) - eps
        shrinking = ((left > 0) & (left < room)).sum(1, keepdim=True)
        near = _MARGIN / 2 * eps + _ULP * threshold * shrinking
        fits = (excess <= 0) & (threshold == 0) | (excess.abs() <= near)
        if bool(fits.all()):
            break
        low, high = torch.where(excess > 0, threshold, low), high.where(excess > 0, threshold)
        step = threshold + excess / shrinking
        halved = (shrinking == 0) | (step <= low) | (step >= high)
        if look % 8 == 0:  # Newton's method alone may creep: the length is not convex in t
            halved = torch.ones_like(halved)
        threshold = torch.where(fits, threshold, torch.where(halved, (low + high) / 2, step))
    shrunk = (size - threshold).clamp_min_(0).minimum(room)
    length = shrunk.sum(1, keepdim=True, dtype=torch.float64)
    shrunk.mul_((eps / length.clamp_min_(_TINY)).clamp_(max=1))  # what rounding left
    return shrunk.mul_(flat.sign()).view_as(offset)


def _sparse_direction(gradient: Tensor, point: Tensor) -> Tensor:
    # entries at their bound, up to rounding, cannot move on, so their gradient does not count
    at_bound = torch.where(gradient > 0, point >= 1 - _ROUNDING, point <= _ROUNDING)
    flat = gradient.masked_fill_(at_bound, 0).flatten(1)
    count = max(1, round(_L1_SHARE * flat.shape[1]))
    top = flat.abs().topk(count, dim=1).indices
    sparse = torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top))
    return (sparse / sparse.abs().sum(1, keepdim=True).clamp_min(_TINY)).view_as(gradient)


def uniform(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | Draws
) -> Float[Tensor, "..."]:
    """Return uniform numbers in [0, 1), from one stream or from each image's own."""
    if isinstance(generator, Draws):
        return generator.uniform(*shape[1:]).to(like)
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def normal(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | Draws
) -> Float[Tensor, "..."]:
    """Return standard normal numbers, from one stream or from each image's own."""
    if isinstance(generator, Draws):
        return generator.normal(*shape[1:]).to(like)
    return torch.randn(shape, generator=generator, device=generator.device).to(like)


def _rows(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
