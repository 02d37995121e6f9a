"""One evaluation at work: puts attacks to images, in batches, from streams, with a journal.

It knows which images still stand and what each attack took; which attack is put to which images is
decided by its callers, the cascade in `table.py` and the screening in `screened.py`.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.draws import draws_of
from wiry.core.rng import stream
from wiry.evaluation.batching import Batching, BatchSize
from wiry.evaluation.examples import ExampleCollector
from wiry.evaluation.fold import folded
from wiry.evaluation.journal import Journal, Outcome
from wiry.evaluation.judge import adversarials, answers
from wiry.evaluation.progress import Progress, Status, TimeLeft

CHUNK = 250
"""Images at once for attacks with one generator, whose draws depend on their number."""


@dataclasses.dataclass(eq=False)
class Verdict:
    """What one attack made of the images it was put to.

    Attributes:
        robust: images that stand: right when clean, and not fooled where it was put to them.
        seconds: how long it took, of earlier processes too.
    """

    robust: Bool[Tensor, " n"]
    num_attacked: int = 0
    num_fooled: int = 0
    seconds: float = 0.0


class Session:
    """The images of an evaluation and how they stand.

    The caller has the model frozen, in eval mode.

    Args:
        found: if given, the images that fool are written into it, at their places.

    Attributes:
        prediction: class of each clean image.
        clean_correct: whether that is the label.
        standing: right when clean and under everything so far.
        margin: least lead of the label's logit seen on an image that an attack returned.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        *,
        seed: int,
        batch_size: BatchSize | Batching,
        journal: Journal | None = None,
        progress: Progress | None = None,
        found: Float[Tensor, "n c h w"] | None = None,
    ) -> None:
        self.model, self.x, self.y, self.seed = model, x, y.cpu(), seed
        self.journal, self.progress, self.found = journal, progress, found
        given = isinstance(batch_size, Batching)
        self.batching = batch_size if given else Batching(batch_size, model, x)
        self.prediction, self.margin, self.num_classes = self._look_at_clean()
        self.clean_correct = self.prediction == self.y
        self.standing = self.clean_correct.clone()
        self.examples = ExampleCollector(tuple(x.shape[1:]))
        self._searched: nn.Module | None = None
        self._num_put, self._time = 0, TimeLeft(())
        self._tell("clean", len(x), len(x))

    def _look_at_clean(self) -> tuple[Tensor, Tensor, int]:
        def look(index: Tensor) -> list[tuple[Tensor, Tensor, int]]:
            return [answers(self.model, self.x[index.to(self.x.device)], self.y[index])]

        parts = torch.arange(len(self.x)).split(self.batching.size)
        looks = [answer for part in parts for answer in self.batching.apply(look, part)]
        prediction, margin, counts = zip(*looks, strict=True)
        return torch.cat(prediction), torch.cat(margin), counts[0]

    def plan(self, attacks: Sequence[Any]) -> None:
        """Say what is going to be put, for the guess of the time that is left."""
        self._time = TimeLeft([part for attack in attacks for part in self._parts(attack)])

    def put(self, attack: Any, verdict: Verdict, on: Bool[Tensor, " n"]) -> None:
        """Put an attack to some images; those it fools fall, in `verdict` and in `standing`.

        A search towards several classes goes class by class, each with what the earlier ones left
        of all batches.
        """
        verdict.num_attacked += int(on.sum())
        left = on.clone()
        for position, part in enumerate(self._parts(attack)):
            name = f"{self._num_put:03d}-{position:02d}"
            known = list(self.journal.read(name)) if self.journal is not None else []
            for outcome in known:
                self._take(outcome, verdict, left)
            self._run(part, name, left, verdict, {int(i) for o in known for i in o.index})
            self._time.next_part()
        self._num_put += 1

    def _parts(self, attack: Any) -> Sequence[Any]:
        if getattr(attack, "draws_per_image", False) and hasattr(attack, "parts"):
            parts: Sequence[Any] = attack.parts(self.num_classes)
            return parts
        return (attack,)

    def _run(self, part: Any, name: str, left: Tensor, verdict: Verdict, done: set[int]) -> None:
        by_image = getattr(part, "draws_per_image", False)
        todo = [i for i in left.nonzero().flatten().tolist() if i not in done]
        total, num_done = len(todo) + len(done), len(done)
        self._tell(repr(part), num_done, total)
        while todo:
            count = self.batching.size if by_image else _first_chunk(todo)
            index, todo = torch.tensor(todo[:count]), todo[count:]
            self._time.begin()
            if by_image:
                outcomes = self.batching.apply(lambda i: [self._attack_images(part, i)], index)
            else:
                outcomes = [self._attack_chunk(part, index)]
            self._time.end(len(index))
            for outcome in outcomes:
                if self.journal is not None:
                    self.journal.write(name, outcome)
                self._take(outcome, verdict, left)
            num_done += len(index)
            self._tell(repr(part), num_done, total)

    def _attack_images(self, part: Any, index: Tensor) -> Outcome:
        return self._attack(part, index, draws_of(self.seed, "evaluate", repr(part), index=index))

    def _attack_chunk(self, part: Any, index: Tensor) -> Outcome:
        start = int(index[0]) // CHUNK * CHUNK
        return self._attack(part, index, stream(self.seed, "evaluate", repr(part), start))

    def _attack(self, part: Any, index: Tensor, generator: Any) -> Outcome:
        begin = time.perf_counter()
        if self._searched is None:
            probe = self.x[: min(8, self.batching.size)]
            self._searched, _ = folded(self.model, probe)
        clean, label = self.x[index.to(self.x.device)], self.y[index]
        adversarial = adversarials(self._searched, part, clean, label, generator)
        prediction, margin, _ = answers(self.model, adversarial, label)
        fooled = prediction != label
        seconds = time.perf_counter() - begin
        return Outcome(index, fooled, margin, adversarial[fooled], prediction[fooled], seconds)

    def _take(self, outcome: Outcome, verdict: Verdict, left: Tensor) -> None:
        index, places = outcome.index, outcome.index[outcome.fooled]
        left[places] = verdict.robust[places] = self.standing[places] = False
        self.margin[index] = self.margin[index].minimum(outcome.margin)
        verdict.num_fooled += len(places)
        verdict.seconds += outcome.seconds
        if self.found is not None:
            self.found[places] = outcome.adversarial.to(self.found)
        clean = self.x[places.to(self.x.device)].cpu()
        label = self.y[places]
        self.examples.add(places, clean, outcome.adversarial, label, outcome.prediction)

    def _tell(self, what: str, num_done: int, num_todo: int) -> None:
        if self.progress is None:
            return
        num_right = int(self.standing.sum())
        left = self._time.seconds(num_todo - num_done, num_right)
        self.progress(Status(what, num_done, num_todo, num_right, len(self.x), left))


def _first_chunk(todo: list[int]) -> int:
    """Return how many of the places are in the first one's chunk of 250 images."""
    end = (todo[0] // CHUNK + 1) * CHUNK
    return sum(place < end for place in todo)
