"""What an evaluation has found so far, on disk: a kill at any moment costs at most one batch.

One file a batch, written whole or not at all, in a folder that says which question it answers. A
later evaluation with the same question takes the answers from there; with another it starts anew.
"""

import dataclasses
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.files import read_json, write_atomic, write_json
from wiry.evaluation.files import read_arrays
from wiry.evaluation.fingerprint import fingerprint, images_fingerprint


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one attack made of some images.

    Attributes:
        index: places of the images.
        fooled: which of them the attack fooled.
        margin: own logit minus the largest other one at the image the attack returned.
        adversarial: the fooling images, as many as there are.
        prediction: what the network says of these.
        seconds: how long it took.
    """

    index: Int[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    margin: Float[Tensor, " n"]
    adversarial: Float[Tensor, "k c h w"]
    prediction: Int[Tensor, " k"]
    seconds: float


_KEYS = ("index", "fooled", "margin", "adversarial", "prediction")


def journal_of(
    folder: Path,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    seed: int,
    **flags: bool,
) -> "Journal":
    """Return the journal in a folder for a network, images, attacks and how they are put."""
    question = {
        "weights": fingerprint(model),
        "images": images_fingerprint(x, y),
        "attacks": [repr(attack) for attack in attacks],
        "seed": seed,
        **flags,
    }
    return Journal(folder, question)


class Journal:
    """The outcomes of one evaluation, by the part of it that they belong to.

    Args:
        folder: where they go; what answers another question there is deleted.
        question: plain data that decides what the outcomes are.
    """

    def __init__(self, folder: Path, question: Any) -> None:
        self.folder = folder
        if folder.exists() and not self._answers(question):
            shutil.rmtree(folder)
        if not folder.exists():
            write_json(folder / "question.json", question)

    def _answers(self, question: Any) -> bool:
        try:
            return read_json(self.folder / "question.json") == question
        except UserError:
            return False

    def read(self, part: str) -> Iterator[Outcome]:
        """Return the outcomes of a part in the order in which they were written."""
        for path in sorted(self.folder.glob(f"{part}-*.npz")):
            try:
                arrays = read_arrays(path)
                fields = {key: torch.from_numpy(arrays[key]) for key in _KEYS}
                yield Outcome(**fields, seconds=float(arrays["seconds"]))
            except (UserError, KeyError):  # damaged: this batch is done again
                path.unlink()

    def write(self, part: str, outcome: Outcome) -> None:
        """Add an outcome; it is there whole or not at all."""
        buffer = io.BytesIO()
        arrays = {key: getattr(outcome, key).numpy() for key in _KEYS}
        np.savez(buffer, seconds=outcome.seconds, **arrays)
        first = int(outcome.index[0])
        write_atomic(self.folder / f"{part}-{first:09d}.npz", buffer.getvalue())
