"""Train several recipes, stage by stage, as one: run directories come out as from single runs.

This is a head start: what cannot be trained together, or ends early, is left to `wiry.train.stages`
with a line that says so, and a run that was killed here goes on there, or here again.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from wiry.core import dist
from wiry.core.errors import UserError
from wiry.core.recipe import Recipe, Stage
from wiry.core.run import Run
from wiry.train.replicas.alike import signature, why_alone
from wiry.train.replicas.group import Replica
from wiry.train.replicas.loop import fit_together
from wiry.train.share import remember_stage
from wiry.train.stages import Placed, Session, finish_stage, is_there, place_stage

Waiting = Sequence[tuple[Run, Stage]]


def train_together(recipes: Sequence[Recipe], out: Path, session: Session) -> list[Run]:
    """Train what these recipes' stages have in common as one, up to where one must train alone.

    Returns:
        The runs, one a recipe; not all of them need be finished, see `wiry.train.stages.train`.

    Raises:
        UserError: if another process holds one of the runs.
    """
    assert not dist.is_distributed(), "ranks share one training"
    runs = [Run.of(recipe, out) for recipe in recipes]
    store = session.store or out
    with contextlib.ExitStack() as held:
        going = list({run.root: run for run in runs}.values())
        for run in going:
            held.enter_context(run.lock())
            run.create(session.device)
        done: set[tuple[Path, str]] = set()
        while going:
            waiting = _waiting(going, store, session, done)
            groups = _groups(list(waiting.values()))
            chosen = [run for group in groups for run, _ in group]
            later = [r for r in going if all(r is not run for run, _ in waiting.values())]
            kept = [run for group in groups for run in _train_group(group, store, session)]
            going = [*kept, *later] if chosen else []
    return runs


def _waiting(
    runs: Sequence[Run], store: Path, session: Session, done: set[tuple[Path, str]]
) -> dict[str, tuple[Run, Stage]]:
    """Return every run's next stage by identity; of equal ones only the first, to be linked.

    Args:
        done: runs and stages that need not be looked at any more; what is found is added.
    """
    found: dict[str, tuple[Run, Stage]] = {}
    for run in runs:
        for stage in run.stages:
            if (run.root, stage.name) in done:
                continue
            if not is_there(run, stage, store, session):
                found.setdefault(run.stage_identity(stage), (run, stage))
                break
            done.add((run.root, stage.name))
    return found


def _groups(waiting: Waiting) -> Sequence[Waiting]:
    """Return the stages that train as one; a stage by itself is none."""
    found: dict[str, list[tuple[Run, Stage]]] = {}
    for run, stage in waiting:
        if (reason := why_alone(run.recipe, stage)) is None:
            found.setdefault(signature(run.recipe, stage), []).append((run, stage))
        else:
            run.log(f"{stage.name}: trained by itself, not as a replica: {reason}")
    return [group for group in found.values() if len(group) > 1]


def _train_group(group: Waiting, store: Path, session: Session) -> list[Run]:
    """Train stages as one and return the runs that can go on."""
    placed: list[tuple[Run, Stage, Placed]] = []
    for run, stage in group:
        try:
            placed.append((run, stage, place_stage(run, stage, session)))
            run.log(f"{stage.name}: trained as one of {len(group)} replicas")
        except UserError as error:
            run.log(f"{stage.name}: not trained as a replica: {error}")
    if not placed:
        return []
    session.announce(f"{placed[0][1].name}: training {len(placed)} networks as one")
    replicas = [Replica(p.training, p.observers) for _, _, p in placed]
    fit_together(replicas)
    done = []
    for (run, stage, _), replica in zip(placed, replicas, strict=True):
        problem = replica.problem
        if problem is None:
            try:
                finish_stage(run, stage, replica.training, session.device)
                remember_stage(run, stage, store)
                done.append(run)
            except UserError as error:
                problem = str(error)
        if problem is not None:
            run.log(f"{stage.name}: left the other replicas: {problem}")
    return done
