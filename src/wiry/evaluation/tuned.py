"""Try settings of FMN on a few images and keep those that together come nearest.

A network's gradients may suit one loss, optimiser or step size and not another; a bad choice makes
it look robust. What the settings do is in `wiry.attacks.fmn`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.fmn import STEP_SIZES, fast_minimum_norm
from wiry.attacks.fmn_search import FMNLoss, Optimizer, Scheduler
from wiry.attacks.minimum_norm import Distance, MinimumNorm, widest
from wiry.core.rng import stream
from wiry.evaluation.minimum_norm import Find, minimum_norms

_STEP_SIZES = (0.03, 3.0)  # range of the first step, shares of the radius
_LEAST_GAIN = 1e-3  # of the mean log distance; less is not worth another search


@dataclasses.dataclass(frozen=True)
class Trial:
    """Settings of FMN to be tried."""

    loss: FMNLoss = "logit-difference"
    optimizer: Optimizer = "sgd"
    scheduler: Scheduler = "cosine"
    step_size: float | None = None  # None: the default of the norm


def trials(count: int, seed: int) -> list[Trial]:
    """Return the default and `count - 1` settings drawn at random, step sizes on a log scale."""
    generator, found = stream(seed, "fmn", "trials"), [Trial()]
    low, high = (math.log(size) for size in _STEP_SIZES)

    def choice(names: Sequence[str]) -> str:
        return names[int(torch.randint(len(names), (), generator=generator))]

    for _ in range(count - 1):
        words = [choice(get_args(kind)) for kind in (FMNLoss, Optimizer, Scheduler)]
        size = math.exp(low + (high - low) * float(torch.rand((), generator=generator)))
        found.append(
            Trial(
                cast(FMNLoss, words[0]),
                cast(Optimizer, words[1]),
                cast(Scheduler, words[2]),
                float(f"{size:.3g}"),
            )
        )
    return found


def tuned(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Distance,
    num_trials: int,
    num_kept: int,
    steps: int,
    seed: int,
    batch_size: int,
) -> list[Trial]:
    """Return the settings whose nearest distances, image by image, are the shortest together.

    Source: Floris et al. 2023 (HO-FMN), who search for one setting with the shortest median
    distance. Differs: a random search instead of a Bayesian one; several settings are kept, each
    the one that shortens the mean log distance most beside those before, as long as there is a gain
    of a thousandth; one class is gone to while tuning.

    Args:
        steps: of each trial.
        seed: of what is tried.
    """
    tried = trials(num_trials, seed)
    logs = []
    for trial in tried:
        found = minimum_norms(
            model, x, y, search(norm, [trial], steps, num_targets=1), norm=norm,
            batch_size=batch_size,
        )  # fmt: skip
        logs.append(found.distance.clamp(1e-6, 2 * widest(x, norm)).log())
    return [tried[place] for place in chosen(torch.stack(logs), num_kept)]


def chosen(logs: Float[Tensor, "trials n"], count: int) -> list[int]:
    """Return the rows whose minimum over rows has the smallest mean, added one by one."""
    kept, best = [], torch.full_like(logs[0], torch.inf)
    while len(kept) < count:
        means = logs.minimum(best).mean(1)
        place = int(means.argmin())
        if kept and float(best.mean() - means[place]) < _LEAST_GAIN:
            break
        kept.append(place)
        best = best.minimum(logs[place])
    return kept


def search(norm: Distance, settings: Sequence[Trial], steps: int, *, num_targets: int) -> Find:
    """Return a search that takes the nearest of what FMN finds with each of the settings."""

    def find(model: nn.Module, x: Tensor, y: Tensor) -> MinimumNorm:
        found = None
        for trial in settings:
            fields = dataclasses.asdict(trial)
            one = fast_minimum_norm(
                model, x, y, norm=norm, steps=steps, num_targets=num_targets, **fields
            )
            found = one if found is None else found.nearer(one)
        assert found is not None, "no settings"
        return found

    return find


def describe(trial: Trial, norm: str) -> str:
    """Return the settings in a few words."""
    size = STEP_SIZES[norm] if trial.step_size is None else trial.step_size
    return f"{trial.loss}, {trial.optimizer}, {trial.scheduler}, step {size:g}"
