"""How far images are from the decision boundary: rho_2 and r_2 from DeepFool, one value an image.

DeepFool finds some way over the boundary, so its distances are upper bounds of the true ones; the
lower bounds are in `lipschitz.py`. Accuracy under attack is elsewhere.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.attacks.deepfool import cross_boundary
from wiry.evaluation.judge import buffers_kept, device_of


@dataclasses.dataclass(frozen=True)
class BoundaryDistances:
    """Distances of images to the boundary of their predicted class, on the CPU.

    Attributes:
        distance: l2 length of what DeepFool added, pixels in [0, 1]; nothing is clipped.
        length: l2 length of the image.
        crossed: whether the class changed; where not, `distance` is where the search ended.
        prediction: class of the image.
        label: true class.
    """

    distance: Float[Tensor, " n"]
    length: Float[Tensor, " n"]
    crossed: Bool[Tensor, " n"]
    prediction: Int[Tensor, " n"]
    label: Int[Tensor, " n"]

    @property
    def correct(self) -> Bool[Tensor, " n"]:
        """Whether the image itself is classified correctly."""
        return self.prediction == self.label

    def rho_2(self) -> float:
        """Return the mean of distance / length over all images, wrong ones included.

        Source: Moosavi-Dezfooli et al. 2016, equation 2 (average robustness).

        Images that DeepFool did not get across count with where it ended, which may be near: a
        network that is flat around them looks weak here. See `crossed` before reading it.
        """
        return float((self.distance / self.length.clamp_min(1e-12)).mean())

    def r_2(self) -> float:
        """Return the mean distance where wrong images count as 0.

        Source: Guo et al. 2018, section 3; the distance to what DeepFool finds in the place of the
        closed form of linear models.
        """
        return float((self.distance * self.correct).mean())

    def arrays(self) -> dict[str, Tensor]:
        """Return the values by image, for a table."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def boundary_distances(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    num_classes: int = 10,
    batch_size: int = 500,
) -> BoundaryDistances:
    """Measure the distance of each image to the boundary with DeepFool (l2).

    Args:
        steps: most steps of the search; the usual value, as for `overshoot`.
        num_classes: the nearest face is looked for among this many likeliest classes.
    """
    device, parts = device_of(model), []
    search = {"steps": steps, "overshoot": overshoot, "num_classes": num_classes}
    with torch.enable_grad(), buffers_kept(model):
        for start in range(0, len(x), batch_size):
            images = x[start : start + batch_size].to(device)
            found, crossed, predicted = cross_boundary(model, images, **search)
            distance = (found - images).flatten(1).norm(dim=1)
            parts.append((distance.cpu(), crossed.cpu(), predicted.cpu()))
    assert parts, "no images"
    distance, crossed, predicted = (torch.cat(values) for values in zip(*parts, strict=True))
    return BoundaryDistances(distance, x.cpu().flatten(1).norm(dim=1), crossed, predicted, y.cpu())
