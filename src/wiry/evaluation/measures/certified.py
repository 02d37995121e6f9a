"""Certified accuracy: images whose class bounds prove for every perturbation within eps."""

import dataclasses

from wiry.bounds.certify import Method, certified
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.judge import device_of
from wiry.evaluation.subject import Measured, Subject


@registry("measure").register("certified")
@dataclasses.dataclass(frozen=True)
class Certified:
    """Prove robustness in the linf ball with interval bounds, and count the images it holds for.

    Source: Gowal et al. 2018 (IBP) and Zhang et al. 2020 (CROWN-IBP).
    """

    method: Method = "ibp"
    eps: float | None = None  # radius in linf; None: that of the evaluation's attacks
    num_samples: int | None = None  # first images only; None: all

    def __call__(self, subject: Subject) -> Measured:
        """Return the certified accuracy and, by image, whether it is certified.

        Raises:
            UserError: without a radius in linf, or for a layer whose bounds are not known.
        """
        eps = self.eps if self.eps is not None else subject.eps
        if eps is None or (self.eps is None and subject.norm != "linf"):
            raise UserError(
                f"measure 'certified' proves robustness in linf, and the evaluation is in "
                f"{subject.norm} with eps {subject.eps}; give its field `eps`"
            )
        x, y = subject.x[: self.num_samples], subject.y[: self.num_samples]
        device = device_of(subject.model)
        proven = certified(
            subject.model,
            x.to(device),
            y.to(device),
            eps,
            self.method,
            batch_size=subject.batch_size,
        ).cpu()
        values = {"certified_accuracy": float(proven.double().mean()), "eps": eps}
        remark = (
            f"{self.method} proves the class of {int(proven.sum())} of {len(x)} images anywhere "
            f"within linf {eps:.4g}; of the others it says nothing."
        )
        return Measured(values, remark, {"certified": proven.numpy()})
