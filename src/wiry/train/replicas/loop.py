"""The loop for several trainings at once. `wiry.train.fit` is the loop for one, and its measure.

Each replica draws its own batches and is watched by its own observers. Those whose next batches are
of one size step together; one that ends, early or not, leaves the others alone.
"""

import time
from collections.abc import Sequence

from wiry.train.observe import MetricsWriter, measure
from wiry.train.replicas.group import Group, Replica
from wiry.train.replicas.measure import measure_together


def fit_together(replicas: Sequence[Replica]) -> None:
    """Train all replicas to the end of their stages; those that cannot go on say why in `problem`.

    Their trainings are of one shape, see `wiry.train.replicas.alike`.
    """
    for replica in replicas:
        replica.draw()
    group: Group | None = None
    try:
        while chosen := _next(replicas):
            if group is None or group.replicas != chosen:
                if group is not None:
                    group.release()
                group = Group(chosen)
            started = time.monotonic()
            lost = group.step()
            for replica in lost:
                replica.problem = f"the loss is not finite at step {replica.training.state.step}"
            if lost:  # the others make their step known from a group of their own
                group.release()
                group = (
                    Group([r for r in chosen if r not in lost]) if len(lost) < len(chosen) else None
                )
            if group is not None:
                _finish_step(group, (time.monotonic() - started) / len(chosen))
    finally:
        if group is not None:
            group.release()


def _next(replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Return who steps next: the one that is furthest behind, and all whose batch is as large."""
    going = [r for r in replicas if r.batch is not None and r.problem is None]
    if not going:
        return ()
    last = min(going, key=lambda r: r.training.progress.num_batches)
    return tuple(r for r in going if _size(r) == _size(last))


def _size(replica: Replica) -> int:
    return 0 if replica.batch is None else len(replica.batch.y)


def _finish_step(group: Group, seconds: float) -> None:
    """Count the batch, let the observers look, and draw the next one.

    Args:
        seconds: each replica's share of the step's time.
    """
    for t in group.trainings:
        t.progress.num_batches += 1
        t.progress.seconds += seconds
    _measure(group)
    for replica in group.replicas:
        t = replica.training
        for observe in replica.observers:
            if (row := observe(t)) is not None:
                t.sparsifier.measured(t.model, t.state, row)
        replica.draw()


def _measure(group: Group) -> None:
    """Measure all replicas at once if all are due, and lay the values out for their writers."""
    writers = [o for r in group.replicas for o in r.observers if isinstance(o, MetricsWriter)]
    for writer in writers:
        writer.measure = measure
    due = zip(writers, group.trainings, strict=True)
    attack = writers[0].attack
    if not all(writer.is_due(t) for writer, t in due):
        return
    if attack is not None and not getattr(attack, "keeps_batch", False):
        return
    streams = [(t.seed, t.name) for t in group.trainings]
    found = {
        split: measure_together(group.stack, x, y, attack, streams, split)
        for split, (x, y) in writers[0].splits.items()
    }
    for place, writer in enumerate(writers):
        own = {split: rows[place] for split, rows in found.items()}
        writer.measure = lambda *arguments, own=own: own[arguments[-1]]
