"""How far an evaluation is: images left, how many stand, and a guess of the time that is left.

The guess takes every image that still stands to the end of every attack, so it is too long at the
start and gets better. How it is shown is for the command line.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Status:
    """Where an evaluation stands.

    Attributes:
        attack: what runs now; "clean" for the look at the clean images.
        num_done: images that it has been put to.
        num_todo: images that it is to be put to in all.
        num_right: images of the whole evaluation that are still right.
        num_images: images of the whole evaluation.
        seconds_left: guess of the time that all attacks take yet; None as long as nobody knows.
    """

    attack: str
    num_done: int
    num_todo: int
    num_right: int
    num_images: int
    seconds_left: float | None = None


Progress = Callable[[Status], None]


def work(attack: Any) -> float:
    """Return what an attack costs an image that withstands it, in forward passes, roughly.

    A step is a forward and a backward pass, three times a forward pass; a query is one.
    """
    searches = getattr(attack, "restarts", 1) * getattr(attack, "num_passes", 1)
    queries = getattr(attack, "num_queries", None)
    return float(queries if queries is not None else 3 * getattr(attack, "steps", 1)) * searches


class TimeLeft:
    """Guesses the time left from the time that the work done so far took.

    Args:
        parts: every attack that is to run, in turn.
    """

    def __init__(self, parts: Sequence[Any], clock: Callable[[], float] = time.perf_counter):
        self._to_come = [work(part) for part in parts]
        self._clock, self._done, self._spent = clock, 0.0, 0.0
        self._since = clock()

    def begin(self) -> None:
        """Start the clock for the next images."""
        self._since = self._clock()

    def end(self, num_images: int) -> None:
        """Stop the clock: these images have been put to the attack that runs."""
        self._spent += self._clock() - self._since
        self._done += num_images * self._to_come[0]

    def next_part(self) -> None:
        """Go on to the next attack."""
        self._to_come.pop(0)

    def seconds(self, num_left_now: int, num_right: int) -> float | None:
        """Return the guess.

        Args:
            num_left_now: images that the attack that runs has not been put to yet.
            num_right: images that the later attacks will be put to.
        """
        if not self._done or not self._to_come:
            return None
        left = num_left_now * self._to_come[0] + num_right * sum(self._to_come[1:])
        return self._spent / self._done * left
