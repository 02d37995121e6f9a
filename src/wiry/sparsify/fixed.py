"""Keep the start mask as it is; with no start mask this is dense training."""

import dataclasses

from wiry.core.registry import registry
from wiry.sparsify.base import Sparsifier


@registry("sparsifier").register("fixed")
@dataclasses.dataclass(frozen=True)
class Fixed(Sparsifier):
    """Train with the mask the stage starts from, or dense."""
