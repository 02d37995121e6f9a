"""Times that can be compared on a machine that is not quiet: engines take turns, round by round.

In one round every engine has a slot of the same length, in an order that rotates. Ratios are taken
within rounds and their median is told, so a slow minute harms all alike. With one thread the
process's CPU time is counted, which other processes do not add to; with more, the wall clock.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

Call = Callable[[], object]
_SETTLE_SECONDS = 0.005  # with several threads: until another engine's workers have gone to sleep


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, a number a round."""

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """The least."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    def times_faster(self, other: "Timing") -> float:
        """Return how many times faster this is than another of the same rounds (median)."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(theirs / own for own, theirs in pairs)


def time_in_turns(
    calls: Mapping[str, Call],
    *,
    num_rounds: int,
    slot_seconds: float,
    num_threads: int,
    clock: Callable[[], float] | None = None,
) -> dict[str, Timing]:
    """Time calls against each other.

    Args:
        slot_seconds: about how long a call is repeated in a round; at least once.
        clock: instead of the CPU's or the wall's.
    """
    clock = clock or (time.process_time if num_threads == 1 else time.perf_counter)
    repeats = {name: _repeats(call, slot_seconds, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(num_rounds):
        turn = number % max(1, len(names))
        for name in [*names[turn:], *names[:turn]]:
            if num_threads > 1:
                time.sleep(_SETTLE_SECONDS)
            calls[name]()  # its weights come back into the caches
            start = clock()
            for _ in range(repeats[name]):
                calls[name]()
            seconds[name].append((clock() - start) / repeats[name])
    return {name: Timing(tuple(found)) for name, found in seconds.items()}


def _repeats(call: Call, slot_seconds: float, clock: Callable[[], float]) -> int:
    call()
    start = clock()
    call()
    once = max(clock() - start, 1e-7)
    return max(1, min(10_000, round(slot_seconds / once)))
