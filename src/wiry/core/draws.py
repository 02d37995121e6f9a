"""One random stream an image: what an image draws does not depend on the batch it is in.

A search on many images may so be cut into batches, shrink, stop and go on without a change of its
results. Numbers come from a hash of (the image's key, the position in its stream), not from a state
that is advanced: SplitMix64 (Steele, Lea and Flood 2014) in 64-bit integers that wrap around.
"""

import hashlib
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
_BITS = 24  # of a float32's mantissa


class Draws:
    """Random numbers by image; every call gives the next ones of each image's stream.

    Args:
        keys: one key an image, int64.
    """

    def __init__(self, keys: Int[Tensor, " n"], position: int = 0) -> None:
        self.keys, self.position = keys, position

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, rows: Tensor) -> "Draws":
        """Return the streams of some of the images, at the position they are at."""
        return Draws(self.keys[rows], self.position)

    def to(self, device: torch.device | str) -> "Draws":
        """Return the streams on a device; a device does not change what is drawn."""
        return Draws(self.keys.to(device), self.position)

    def integers(self, *shape: int) -> Int[Tensor, "..."]:
        """Return 64 random bits for each entry of (n, *shape)."""
        count = math.prod(shape)
        steps = torch.arange(self.position + 1, self.position + count + 1, device=self.keys.device)
        self.position += count
        return _mixed(self.keys[:, None] + steps * _GOLDEN).view(len(self), *shape)

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Return uniform numbers in [0, 1)."""
        bits = _shifted(self.integers(*shape), 64 - _BITS)
        return bits.to(torch.float32).mul_(2.0**-_BITS)

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Return standard normal numbers (Box and Muller 1958)."""
        radius = (1 - self.uniform(*shape)).log_().mul_(-2).sqrt_()  # 1 - u is never 0
        return radius.mul_(self.uniform(*shape).mul_(2 * math.pi).cos_())

    def signs(self, *shape: int) -> Float[Tensor, "..."]:
        """Return -1 and 1, each half of the time."""
        return _shifted(self.integers(*shape), 63).to(torch.float32).mul_(2).sub_(1)


def draws_of(seed: int, *names: str | int, index: Int[Tensor, " n"]) -> Draws:
    """Return the streams of the images with these indices, for what the names spell."""
    text = "/".join([str(seed), *map(str, names)])
    base = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
    return Draws(_mixed(_mixed(index.long() * _GOLDEN) + base))


def as_draws(generator: "torch.Generator | Draws", like: Float[Tensor, "n c h w"]) -> Draws:
    """Return streams for the images of a batch; a generator is asked for one key an image."""
    if isinstance(generator, Draws):
        assert len(generator) == len(like), "one stream an image"
        return generator.to(like.device)
    keys = torch.randint(
        -(2**63), 2**63 - 1, (len(like),), generator=generator, device=generator.device
    )
    return Draws(keys.to(like.device))


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """Return a logical shift to the right; the operator copies the sign."""
    return (z >> places) & ((1 << (64 - places)) - 1)
