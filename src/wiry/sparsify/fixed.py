"""Keep the start mask as it is; with no start mask this is dense training."""

import dataclasses

from wiry.core.registry import registry
from wiry.sparsify.base import Sparsifier


@registry("sparsifier").register("fixed")
@dataclasses.dataclass(frozen=True)
class Fixed(Sparsifier):
    """Train with the mask the stage starts from, or dense.

    Use: for dense training and for fine-tuning after a stage that found a mask; it is the default
    of every stage.

    Source: none needed; what "fine-tune with the mask fixed" means in the papers.

    Published: none, it is a part of other methods.
    """
