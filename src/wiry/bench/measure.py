"""Write a network with every engine asked for, open the files, and time them against each other.

Which of them to ship is `verdict`'s to say; accuracies are `accuracy`'s.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from wiry.bench.base import Answer, Engine, Numbers
from wiry.bench.subject import Subject
from wiry.bench.timing import Timing, time_in_turns
from wiry.core.errors import UserError
from wiry.core.registry import registry

Tell = Callable[[str, str], None]
"""Called with the name of an engine that cannot be used and why."""


@dataclasses.dataclass(frozen=True)
class Written:
    """An engine with the file that it wrote."""

    engine: Engine
    path: Path

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


@dataclasses.dataclass(frozen=True)
class Measured:
    """One engine at one batch size and number of threads.

    Attributes:
        timing: of one call.
        difference: largest difference from torch's logits, relative to the largest logit.
    """

    timing: Timing
    difference: float


def write_all(
    subject: Subject, names: Sequence[str], folder: Path, tell: Tell
) -> dict[str, Written]:
    """Write a network with each engine; one that cannot is told and left out."""
    found = {}
    for name in names:
        engine = registry("engine").build(name)
        place = folder / name
        place.mkdir()
        try:
            found[name] = Written(engine, engine.write(subject, place))
        except UserError as error:
            tell(name, str(error))
    return found


def open_all(
    written: Mapping[str, Written],
    input_shape: tuple[int, ...],
    *,
    batch_size: int,
    num_threads: int,
    tell: Tell,
) -> dict[str, Answer]:
    """Open each file for a batch size; what cannot be opened is told and left out."""
    found = {}
    for name, one in written.items():
        try:
            found[name] = one.engine.open(
                one.path, input_shape, batch_size=batch_size, num_threads=num_threads
            )
        except UserError as error:
            tell(name, str(error))
    return found


def measure(
    subject: Subject,
    answers: Mapping[str, Answer],
    *,
    batch_size: int,
    num_threads: int,
    num_rounds: int,
    slot_seconds: float,
) -> dict[str, Measured]:
    """Time opened engines in turns on the same images, and compare their answers with torch's."""
    images = subject.random_images(batch_size).numpy()
    expected = _reference(subject, images)
    differences = {name: _difference(answer(images), expected) for name, answer in answers.items()}
    timings = time_in_turns(
        {name: _call(answer, images) for name, answer in answers.items()},
        num_rounds=num_rounds,
        slot_seconds=slot_seconds,
        num_threads=num_threads,
    )
    return {name: Measured(timings[name], differences[name]) for name in answers}


def dense_baseline(written: Mapping[str, Written], measured: Mapping[str, Measured]) -> str | None:
    """Return the fastest maintained dense float32 engine among those measured, None if none is."""
    dense = [name for name in measured if written[name].engine.maintained_dense]
    return min(dense, key=lambda name: measured[name].timing.median, default=None)


def _call(answer: Answer, images: Numbers) -> Callable[[], object]:
    return lambda: answer(images)


@torch.inference_mode()
def _reference(subject: Subject, images: Numbers) -> Numbers:
    return subject.model(torch.from_numpy(images)).numpy()


def _difference(found: Numbers, expected: Numbers) -> float:
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found - expected).max()) / scale
