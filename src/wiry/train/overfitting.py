"""Catastrophic overfitting of one-step adversarial training, told from the monitor's rows.

A network that overfits so is right on the images of the training attack and wrong on those of a
stronger one, often from one epoch to the next. Here is only the rule; the loop's observer feeds it
and logs what it says.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

_QUARTER = 0.25  # share of the validation accuracy lost from row to row beside a training-side jump
_GAP, _LEARNED = 0.2, 0.4  # a fifth of the training accuracy, once that is well above chance


@dataclasses.dataclass
class OverfittingDetector:
    """Say when accuracy under the monitor's attack breaks down, but not under the training's.

    The rule, on rows of metrics.jsonl with V = `<split>_robust_accuracy` (a multi-step attack) and
    T = `train_robust_accuracy` (the training attack): it speaks if

    - V lost at least `fall` since its best row and is below `share` of it, and T did not fall;
    - or V lost at least `fall` and a quarter since the row before, and T gained at least `jump`;
    - or in two rows in a row T is above 0.4 and V below a fifth of it (it never came off the
      ground).

    It speaks once, and again only after V has come back to three quarters of its best. Multi-step
    training is quiet: when it overfits in the ordinary way (Rice et al. 2020), V loses a tenth over
    many epochs. Rows without V or T, as of natural training, say nothing, and so does a row in
    which weights have been pruned: V is measured after the cut and T was before, so the comparison
    starts anew there. With a resumed run, call it with the rows already written first.

    Source: Wong et al. 2020, section 5.4 (their code stops when PGD accuracy on a training batch
    falls by 0.2 from one epoch to the next); Andriushchenko & Flammarion 2020. Differs: on
    validation images, relative to the best row, and only while the training attack fails.
    """

    share: float = 0.5
    """Share of the best validation robust accuracy, in (0, 1)."""
    fall: float = 0.1
    """Least loss of validation robust accuracy, absolute: noise on few images is no alarm."""
    jump: float = 0.1
    """Gain of training robust accuracy from one row to the next that is a sign, absolute."""
    split: str = "validation"
    """Split of the monitor that is looked at."""

    _best: tuple[float, float] = dataclasses.field(default=(0.0, 0.0), init=False, repr=False)
    _before: tuple[float, float] = dataclasses.field(default=(0.0, 0.0), init=False, repr=False)
    _spoken: bool = dataclasses.field(default=False, init=False, repr=False)
    _density: float = dataclasses.field(default=1.0, init=False, repr=False)

    def __call__(self, row: Mapping[str, Any]) -> str | None:
        """Take in the next row; return a sentence if overfitting has set in with it, else None."""
        value = row.get(f"{self.split}_robust_accuracy")
        train = row.get("train_robust_accuracy")
        density, self._density = self._density, row.get("density", self._density)
        if value is None or train is None:
            return None
        if self._density < density:
            self._best = self._before = (value, value)
            return None
        sign = self._sign(value, train)
        apart = _apart(value, train)
        self._before = (value, train)
        if value > self._best[0]:
            self._best = (value, train)
        if value >= (1 - _QUARTER) * self._best[0] and not apart:
            self._spoken = False
        if sign is None or self._spoken:
            return None
        self._spoken = True
        return (
            f"catastrophic overfitting at step {row.get('step', '?')}: robust accuracy on "
            f"{self.split} {sign} under the training attack. If the monitor's attack has the same "
            "eps, the training attack is too weak: use 'fgsm' with random_start, 'pgd', or a "
            "smaller eps"
        )

    def _sign(self, value: float, train: float) -> str | None:
        """Return the part of the sentence for the first of the three signs that is there."""
        (best, train_then), (before, train_before) = self._best, self._before
        if best - value >= self.fall and value < self.share * best and train >= train_then:
            return _fell(best, value, train_then, train)
        fell = before - value >= max(self.fall, _QUARTER * before)
        if fell and train - train_before >= self.jump:
            return _fell(before, value, train_before, train)
        if _apart(value, train) and _apart(before, train_before):
            return f"is {value:.3f}, but {train:.3f}"
        return None


def _fell(before: float, after: float, train_before: float, train: float) -> str:
    return f"fell from {before:.3f} to {after:.3f}, but went from {train_before:.3f} to {train:.3f}"


def _apart(value: float, train: float) -> bool:
    """Say whether the training attack is held off and the monitor's is not."""
    return train > _LEARNED and value < _GAP * train
