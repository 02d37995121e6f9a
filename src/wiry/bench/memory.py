"""Peak memory of a process that opens one file with one engine and runs one batch.

`peak_memory` starts such a process: `python -m wiry.bench.memory`. What it counts is what a program
that does nothing else needs, the interpreter and the engine's own libraries included.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

_STATUS = Path("/proc/self/status")
_TIMEOUT_SECONDS = 600


def peak_memory(
    engine: Any, path: Path, input_shape: tuple[int, ...], *, batch_size: int, num_threads: int
) -> int | None:
    """Return the most bytes that were resident, None where the system does not tell."""
    if not _STATUS.exists():
        return None
    place = f"{type(engine).__module__}:{type(engine).__qualname__}"
    question = json.dumps([place, str(path), list(input_shape), batch_size, num_threads])
    done = subprocess.run(
        [sys.executable, "-m", "wiry.bench.memory", question],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
    )
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def main(question: str) -> None:
    """Open, run one batch and print the bytes."""
    place, path, input_shape, batch_size, num_threads = json.loads(question)
    module, _, name = place.partition(":")
    engine = getattr(importlib.import_module(module), name)()
    shape = tuple(input_shape)
    answer = engine.open(Path(path), shape, batch_size=batch_size, num_threads=num_threads)
    answer(np.zeros((batch_size, *shape), np.float32))
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
    print(1024 * int(line.split()[1]))


if __name__ == "__main__":
    main(sys.argv[1])
