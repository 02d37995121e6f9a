"""How sparsity grows over a stage.

Functions from progress in [0, 1] to the share of the way to the target.
"""

from wiry.core.registry import registry


@registry("schedule").register("cubic")
def cubic(progress: float) -> float:
    """Prune fast at first, slowly at the end: 1 - (1 - t)^3 (Zhu & Gupta 2017, equation 1)."""
    return 1.0 - (1.0 - progress) ** 3


@registry("schedule").register("linear")
def linear(progress: float) -> float:
    """Prune evenly."""
    return progress
