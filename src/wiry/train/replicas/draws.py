"""Random numbers for the images of several replicas: each part from its own replica's stream."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wiry.core.draws import Draws


class JointDraws(Draws):
    """What attacks draw from for stacked networks: part i is what generator i gives it alone.

    Args:
        generators: one a replica.
        count: images of each.
    """

    def __init__(self, generators: Sequence[torch.Generator], count: int) -> None:
        super().__init__(torch.zeros(len(generators) * count, dtype=torch.int64))
        self.generators, self.count = generators, count

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Return uniform numbers in [0, 1)."""
        return self._drawn(torch.rand, shape)

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Return standard normal numbers."""
        return self._drawn(torch.randn, shape)

    def integers(self, *shape: int) -> Tensor:
        """Refuse: a generator has no stream of bits for each image."""
        raise AssertionError("attacks that stacked networks share draw uniform and normal numbers")

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.cat([draw((self.count, *shape), generator=g) for g in self.generators])
