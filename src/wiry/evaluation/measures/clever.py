"""CLEVER scores: an estimate of how far images are from the boundary, without an attack."""

import dataclasses
import math

import numpy as np
import torch

from wiry.attacks.base import check_counts
from wiry.core.draws import draws_of
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.clever import DUAL, Norm, Scores, Targets, clever
from wiry.evaluation.subject import Curve, Measured, Subject

_RADII = {"l2": 5.0, "linf": 0.3, "l1": 30.0}
_LEAST_BATCHES = 10  # three numbers are fitted to as many maxima


@registry("measure").register("clever")
@dataclasses.dataclass(frozen=True)
class Clever:
    """Estimate the distance to the boundary from sampled gradients: no bound, no attack.

    Source: Weng et al. 2018 (CLEVER). Images that are wrong are skipped and score 0. Gradients that
    vanish (masking) make a network look robust here (Goodfellow 2018); compare with distances that
    attacks reach.
    """

    norm: Norm | None = None  # None: that of the evaluation's attacks
    radius: float | None = None  # pixels; None: 5 in l2 (paper), 0.3 in linf, 30 in l1 (their code)
    num_batches: int = 50  # maxima a fit sees; paper: 500
    num_points: int = 100  # of which each is the maximum; paper: 1,024
    targets: Targets = "all"  # paper: "second", "random" and "least" apart; "all" is untargeted
    num_samples: int | None = 50  # first images only; None: all

    def __post_init__(self) -> None:
        check_counts(
            num_points=self.num_points,
            num_samples=1 if self.num_samples is None else self.num_samples,
        )
        if self.num_batches < _LEAST_BATCHES:
            raise ValueError(
                f"num_batches must be at least {_LEAST_BATCHES}, as three numbers are fitted to "
                f"the maxima of as many batches, got {self.num_batches}"
            )
        if self.radius is not None and not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius must be positive, got {self.radius:g}")

    def __call__(self, subject: Subject) -> Measured:
        """Return the scores' mean, median and smallest over right images, and all by image.

        Raises:
            UserError: if no norm is given and the evaluation's is none that CLEVER has.
        """
        norm = self.norm or subject.norm
        if norm not in DUAL:
            raise UserError(
                f"measure 'clever' is for norms {', '.join(DUAL)}, and the evaluation is in "
                f"{norm}; give its field `norm`"
            )
        radius = self.radius if self.radius is not None else _RADII[norm]
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        right = subject.clean_correct[: self.num_samples].nonzero().flatten()
        if len(right) == 0:
            return Measured(
                {"score": None, "norm": norm}, f"None of {len(x)} images is right, so none scores."
            )
        found = clever(
            subject.model,
            x[right],
            y[right],
            norm=norm,  # type: ignore[arg-type] # a key of DUAL
            radius=radius,
            num_batches=self.num_batches,
            num_points=self.num_points,
            draws=draws_of(subject.seed, "clever", index=right),
            targets=self.targets,
            batch_size=subject.batch_size,
        )
        return self._measured(found, right, len(x), norm, radius)

    def _measured(
        self, found: Scores, right: torch.Tensor, num: int, norm: str, radius: float
    ) -> Measured:
        score = found.score
        values = {
            "score": float(score.mean()),
            "median": float(score.median()),
            "smallest": float(score.min()),
            "norm": norm,
            "radius": radius,
            "at_radius": float((score >= radius).double().mean()),
            "fallbacks": float((~found.fitted).double().mean()),
        }
        remark = (
            f"CLEVER in {norm} from {self.num_batches} x {self.num_points} points around each of "
            f"{len(score)} right images: an estimate of the distance to the boundary, not a bound; "
            "where gradients vanish it is too large."
        )
        by_image = np.zeros(num, dtype=np.float32)
        by_image[right.numpy()] = score.numpy()
        ends = np.linspace(0, float(score.max()), 41)
        curve = Curve(
            "CLEVER",
            f"{norm} radius, pixels in [0, 1]",
            ends.tolist(),
            [float((by_image[right.numpy()] > r).sum() / num) for r in ends],
            "estimated share still right",
        )
        return Measured(values, remark, {"clever": by_image}, (curve,))
