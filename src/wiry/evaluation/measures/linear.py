"""The robustness of a linear classifier, exactly: r_2 and r_inf."""

import dataclasses

import torch

from wiry.attacks.base import check_counts
from wiry.bounds.graph import trace
from wiry.bounds.layers import Affine, Sum
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.judge import device_of
from wiry.evaluation.lipschitz import margin_bound, margin_gradient_norms
from wiry.evaluation.subject import Measured, Subject


@registry("measure").register("linear")
@dataclasses.dataclass(frozen=True)
class Linear:
    """Measure r_2 and r_inf of a linear network in closed form: no attack can do better.

    Source: Guo et al. 2018, section 3. Differs: any number of classes; each margin is a linear
    function, and the nearest of its zeros counts. As there, pixels may leave [0, 1].
    """

    eps: float | None = None  # of r_inf, pixels; None: eps of the evaluation's attacks if in linf
    num_samples: int | None = None  # first images only; None: all

    def __post_init__(self) -> None:
        check_counts(num_samples=1 if self.num_samples is None else self.num_samples)
        if self.eps is not None and not 0 <= self.eps <= 1:
            raise ValueError(f"eps must be in [0, 1], as pixels are, got {self.eps:g}")

    def __call__(self, subject: Subject) -> Measured:
        """Return r_2, r_inf where eps is known, and the distances by image.

        Raises:
            UserError: if a layer of the network is not linear.
        """
        _check_linear(subject)
        eps = self.eps
        if eps is None and subject.norm == "linf":
            eps = subject.eps
        x, right = subject.x[: self.num_samples], subject.clean_correct[: self.num_samples]
        distances = {}
        for norm, order in (("l2", 2), ("linf", 1)):
            parts = [
                _distances(subject.model, images, order) for images in x.split(subject.batch_size)
            ]
            distances[norm] = torch.cat(parts) * right  # wrong images count 0
        values = {
            "r_2": float(distances["l2"].mean()),
            "r_inf": None if eps is None else float((distances["linf"] > eps).double().mean()),
            "eps": eps,
        }
        remark = (
            f"The network is linear, so the distance of {len(x)} images to the boundary is known: "
            "r_2 is its mean in l2, r_inf the share further away than eps in linf; wrong images "
            "count 0, and pixels may leave [0, 1]."
        )
        arrays = {f"distance_{norm}": found.numpy() for norm, found in distances.items()}
        return Measured(values, remark, arrays)


def _distances(model: torch.nn.Module, x: torch.Tensor, order: int) -> torch.Tensor:
    images = x.to(device_of(model))
    with torch.no_grad():
        predicted = model(images).argmax(1)
    norms = margin_gradient_norms(model, images, predicted, order=order)  # type: ignore[arg-type]
    return margin_bound(model, x, norms.cpu())


def _check_linear(subject: Subject) -> None:
    for step in trace(subject.model).steps:
        if not isinstance(step.layer, Affine | Sum):
            raise UserError(
                f"measure 'linear' is for linear networks, and step {step.name!r} is not linear; "
                "take the measure 'clever' or 'distance', or a network without hidden layers "
                "(model 'mlp' with `widths: []`)"
            )
