"""A search's time budget, counted over interruptions.

What it cut stays cut, so a second run agrees.
"""

import threading
import time
from pathlib import Path

from wiry.core.files import read_json, write_json


class Budget:
    """Wall-clock seconds a search may take; None is no limit.

    Args:
        path: file that keeps the time used and what was cut; a larger budget than the one in it
            lifts the cuts.
    """

    def __init__(self, path: Path, seconds: float | None) -> None:
        self.path, self.seconds = path, seconds
        saved = read_json(path) if path.exists() else {}
        self._before: float = saved.get("elapsed", 0.0)
        old = saved.get("seconds")
        lifted = old is not None and (seconds is None or seconds > old)
        self._cuts: dict[str, int] = (
            {} if lifted or seconds is None else dict(saved.get("cuts", {}))
        )
        self._granted: dict[str, int] = dict(saved.get("granted", {}))
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        """Return the seconds used, earlier calls of the same search included."""
        return self._before + time.monotonic() - self._started

    def allows(self, what: str, num_done: int, *, share: float = 1.0) -> bool:
        """Say whether part `what` may go on after `num_done` pieces; the answer is remembered.

        Args:
            share: part of the budget that may be used up for this, in [0, 1].
        """
        if self.seconds is None:
            return True
        with self._lock:
            if num_done < self._granted.get(what, 0):
                return True  # granted before an interruption; most of it is on disk
            allowed = what not in self._cuts and self.elapsed() <= share * self.seconds
            if allowed:
                self._granted[what] = num_done + 1
            else:
                self._cuts.setdefault(what, num_done)
        self.save()
        return allowed

    def cut(self) -> list[str]:
        """Return what the budget cut short."""
        return sorted(self._cuts)

    def save(self) -> None:
        """Write the time used and the cuts."""
        with self._lock:
            write_json(
                self.path,
                {
                    "elapsed": round(self.elapsed(), 1),
                    "seconds": self.seconds,
                    "cuts": self._cuts,
                    "granted": self._granted,
                },
            )
