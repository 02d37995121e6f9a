"""Which density to try next: down a geometric ladder to the first failure, then bisect.

Pure functions.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The shape of the walk down in density.

    Attributes:
        ratio: each rung has this share of the weights of the rung above, in (0, 1).
        min_density: the walk ends here.
        num_bisections: how often the gap between the last pass and the first failure is halved
            (in the logarithm of the density).
    """

    ratio: float = 0.5
    min_density: float = 0.005
    num_bisections: int = 2

    def rungs(self) -> list[float]:
        """Return the rungs from the densest to `min_density`, which is the last one."""
        densities = []
        density = self.ratio
        while density > self.min_density * 1.0001:
            densities.append(_rounded(density))
            density *= self.ratio
        return [*densities, _rounded(self.min_density)]

    def next_density(self, passed: dict[float, bool]) -> float | None:
        """Return the next density to try, or None when the walk is over.

        Args:
            passed: for each density tried so far, whether it met the constraint.
        """
        rungs = self.rungs()
        for density in rungs:
            if density not in passed:
                return density
            if not passed[density]:
                break
        else:
            return None
        low = max(d for d in rungs if d in passed and not passed[d])
        high = min((d for d in rungs if passed.get(d)), default=1.0)
        for _ in range(self.num_bisections):
            middle = _rounded(math.sqrt(low * high))
            if middle in (low, high):
                return None
            if middle not in passed:
                return middle
            low, high = (low, middle) if passed[middle] else (middle, high)
        return None

    def path_to(self, density: float) -> list[float]:
        """Return the rungs above a density, then the density: the levels of an iterative method."""
        return [*(rung for rung in self.rungs() if rung > density), density]

    def most_trials(self) -> int:
        """Return how many densities are tried at the most."""
        return len(self.rungs()) + self.num_bisections


def _rounded(density: float) -> float:
    """Round to four significant digits, as in the names of stages."""
    return float(f"{density:.4g}")
