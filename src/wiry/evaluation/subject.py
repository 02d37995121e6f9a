"""What a measure or a check may look at: a network, images, and how it was attacked.

Measures say how good a network is in some further sense, checks say whether an evaluation can be
believed. Both are found in their folders, one file each; both get a `Subject` and never change it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.mask import Mask

if TYPE_CHECKING:
    from wiry.evaluation.table import Table

Severity = Literal["error", "warning", "note"]


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network under examination, frozen and in eval mode for as long as it is looked at.

    Attributes:
        model: takes images in [0, 1] (outside, if the user got that wrong) and returns logits.
        x: images of the evaluation, on the CPU.
        y: their true classes, on the CPU.
        clean_correct: which of them are right when clean.
        num_classes: how many logits there are.
        class_names: names of the classes, as many as there are logits.
        eps: radius of the evaluation's attacks, pixels in [0, 1]; None if there was no attack.
        norm: their norm.
        seed: of the evaluation; a measure keys its own streams with it.
        batch_size: images that fit into a forward and backward pass.
        mask: of a sparse network, if there is one.
        table: what the attacks left, for checks; None while there is none.
        attacks: those that made the table.
        training: names of the modules that were in training mode when the network was handed over.
        claim: difference of two accuracies that somebody wants to read from these images.
    """

    model: nn.Module
    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    clean_correct: Bool[Tensor, " n"]
    num_classes: int
    class_names: tuple[str, ...]
    eps: float | None = None
    norm: str = "linf"
    seed: int = 0
    batch_size: int = 128
    mask: Mask | None = None
    table: "Table | None" = None
    attacks: tuple[Any, ...] = ()
    training: tuple[str, ...] = ()
    claim: float | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line to be drawn: shares in [0, 1] over something."""

    name: str
    x_label: str
    x: list[float]
    y: list[float]
    y_label: str


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What a measure found.

    Attributes:
        values: few numbers and words that JSON can hold, in the order in which they are shown;
            shares and distances as floats, None for what could not be said.
        arrays: one row an image (of the first images, where a measure looks at fewer).
        curves: lines to be drawn.
        remark: one sentence: what was measured, on how many images, and what it is not.
    """

    values: dict[str, Any]
    remark: str
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    curves: tuple[Curve, ...] = ()


class Measure(Protocol):
    """A frozen dataclass whose fields are its configuration, registered as a "measure"."""

    def __call__(self, subject: Subject) -> Measured:
        """Measure; the subject comes back as it was."""
        ...


@dataclasses.dataclass(frozen=True)
class Finding:
    """A reason to doubt an evaluation.

    Attributes:
        check: name of the check that found it.
        severity: "error": the numbers are wrong; "warning": they may be; "note": worth knowing.
        message: what was found and what to do, for the user, one or two sentences.
        evidence: the numbers behind it.
    """

    check: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = dataclasses.field(default_factory=dict)
