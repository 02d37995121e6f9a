"""The trainings of a comparison, and in which order they can be done at the same time."""

import dataclasses
from collections.abc import Iterable

from wiry.core.recipe import Stage
from wiry.sweep.trial import Trial

Key = tuple[str, float, int]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One training of the comparison: a method at a sparsity with a seed."""

    method: str
    sparsity: float
    seed: int
    trial: Trial
    stage: str

    @property
    def key(self) -> Key:
        """What the row is found by."""
        return self.method, self.sparsity, self.seed


def chains(entries: Iterable[Entry], trained: set[str]) -> list[list[Entry]]:
    """Group entries that share an untrained stage into chains, to be done in order.

    Two workers so never train the same stage at once: the levels of an iterative method are shared
    by its sparsities, and by a control that prunes like it.

    Args:
        trained: identities of stages that are there already.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        run = entry.trial.run()
        joined: list[Entry] = [entry]
        identities = {run.stage_identity(stage) for stage in run.stages} - trained
        for group in {id(g): g for i in identities if (g := groups.get(i))}.values():
            joined = [*group, *joined]
            identities |= {i for i, g in groups.items() if g is group}
        groups |= dict.fromkeys(identities, joined)
    return list({id(group): group for group in groups.values()}.values())


def num_epochs(entry: Entry) -> int:
    """Return the epochs of all stages of a training."""
    return sum(Stage.model_validate(stage).epochs for stage in entry.trial.recipe["stages"])
