"""One attack on many images: which ones it is put to, in which batches, from which streams."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from wiry.core.draws import draws_of
from wiry.core.rng import stream
from wiry.evaluate.examples import ExampleCollector
from wiry.evaluate.judge import adversarials, predict

CHUNK = 250
"""Images attacked at once; fixed for attacks with one generator, whose draws depend on it."""

Progress = Callable[[str, int, int, int], None]
"""Called with what runs, images done, images in all, and how many of those done are correct."""


@dataclasses.dataclass
class Job:
    """One attack on the images for which `robust` is true; those it fools become false there."""

    model: nn.Module
    searched: nn.Module  # what the attack sees: the model, or a copy that answers faster
    attack: Any
    x: Tensor
    y: Tensor
    robust: Tensor
    examples: ExampleCollector
    progress: Progress | None
    found: Tensor | None = None  # takes the images that fool, at their places

    def run_pooled(self, seed: int, batch_size: int) -> None:
        """Attack what is still right in full batches, each image with its own stream."""
        index = self.robust.nonzero().flatten()
        parts = index.split(batch_size) if len(index) else ()  # none is split into an empty one
        for done, part in enumerate(parts):
            self._attack(part, draws_of(seed, "evaluate", repr(self.attack), index=part))
            end = done * batch_size + len(part)
            self._tell(end, len(index), int(self.robust[index[:end]].sum()))
        if not len(index):
            self._tell(0, 0, 0)

    def run_in_chunks(self, seed: int) -> None:
        """Attack fixed chunks of the images, each with its own stream."""
        for start in range(0, len(self.x), CHUNK):
            index = start + self.robust[start : start + CHUNK].nonzero().flatten()
            if len(index):
                self._attack(index, stream(seed, "evaluate", repr(self.attack), start))
            done = min(start + CHUNK, len(self.x))
            self._tell(done, len(self.x), int(self.robust[:done].sum()))

    def _attack(self, index: Tensor, generator: Any) -> None:
        clean = self.x[index.to(self.x.device)]
        label = self.y[index.to(self.y.device)]
        adversarial = adversarials(self.searched, self.attack, clean, label, generator)
        prediction = predict(self.model, adversarial, batch_size=len(index))
        fooled = prediction != label.cpu()
        self.robust[index[fooled]] = False
        if self.found is not None:
            self.found[index[fooled]] = adversarial[fooled].to(self.found)
        chosen = (part.cpu()[fooled] for part in (clean, adversarial, label, prediction))
        self.examples.add(index[fooled], *chosen)

    def _tell(self, done: int, total: int, right: int) -> None:
        if self.progress is not None:
            self.progress(repr(self.attack), done, total, right)
