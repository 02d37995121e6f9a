"""Distances to the boundary in l2 by DeepFool: rho_2 and r_2."""

import dataclasses

from wiry.attacks.base import check_counts
from wiry.attacks.deepfool import check_search
from wiry.core.registry import registry
from wiry.evaluation.distance import boundary_distances
from wiry.evaluation.subject import Measured, Subject


@registry("measure").register("deepfool")
@dataclasses.dataclass(frozen=True)
class DeepFoolDistance:
    """Find how far the boundary is in l2, with DeepFool: rho_2 and r_2.

    Source: Moosavi-Dezfooli et al. 2016 (rho_2), Guo et al. 2018 (r_2). A fast search: on networks
    for MNIST and CIFAR-10 its distances were 6 to 30 % longer than those of `security-curve`,
    although its pixels may leave [0, 1].
    """

    steps: int = 50  # at most
    overshoot: float = 0.02  # share by which the way is lengthened
    num_classes: int = 10  # nearest faces are looked for among this many likeliest classes
    num_samples: int | None = None  # first images only; None: all

    def __post_init__(self) -> None:
        check_search(self.steps, self.overshoot, self.num_classes)
        check_counts(num_samples=1 if self.num_samples is None else self.num_samples)

    def __call__(self, subject: Subject) -> Measured:
        """Return rho_2, r_2 and the median distance of right images, and all by image."""
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        found = boundary_distances(
            subject.model,
            x,
            y,
            steps=self.steps,
            overshoot=self.overshoot,
            num_classes=self.num_classes,
            batch_size=subject.batch_size,
        )
        right = found.distance[found.correct]
        values = {
            "rho_2": found.rho_2(),
            "r_2": found.r_2(),
            "median_distance": float(right.median()) if len(right) else None,
            "num_not_crossed": int((~found.crossed).sum()),
            "num_samples": len(x),
        }
        remark = (
            f"DeepFool in l2 on {len(x)} images, to the boundary of the predicted class; rho_2 is "
            "relative to the length of the image, in r_2 wrong images count 0. Upper bounds of the "
            f"true distances, but where the class did not change ({values['num_not_crossed']})."
        )
        arrays = {"distance": found.distance.numpy(), "crossed": found.crossed.numpy()}
        return Measured(values, remark, arrays)
