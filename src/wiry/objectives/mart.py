"""MART: adversarial training that pulls hardest where the clean image is already doubtful."""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.losses import cross_entropy, kl
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch, Loss
from wiry.core.registry import component, registry
from wiry.objectives.base import Forward, accuracy, attack_images, check_weight

_OFFSET = 1.0001  # of the published code: keeps the logarithm finite when all mass is on one class
_ATTACK = PGD()


@registry("objective").register("mart")
@dataclasses.dataclass(frozen=True)
class Mart:
    """Boosted cross-entropy plus `beta` times a divergence weighted by 1 - clean true probability.

    Source: Wang et al. 2020, eq. 11, with the offset of the published code; gradients flow through
    all terms, the weights included. Differs: the inner PGD has eps 8/255 and steps of 2/255, and
    starts at a uniform point of the ball where the code adds noise of 0.001.
    """

    attack: component("attack") = _ATTACK
    beta: float = 5.0  # lambda in the paper, where it is 5; the published code's default is 6

    replays: ClassVar[int] = 1
    is_joinable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_weight("beta", self.beta)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        images = attack_images(self.attack, model, batch, generator)
        clean, attacked = forward(batch.x), forward(images)
        probability = clean.softmax(1)
        doubt = 1 - probability.gather(1, batch.y[:, None]).squeeze(1)
        total = (
            boosted_cross_entropy(attacked, batch.y) + self.beta * kl(attacked, probability) * doubt
        )
        metrics = {
            "accuracy": accuracy(clean, batch.y),
            "robust_accuracy": accuracy(attacked, batch.y),
        }
        return Loss(total.mean(), metrics)


def boosted_cross_entropy(
    logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Return the cross-entropy plus -log(1.0001 - the largest wrong probability) of each image.

    Source: Wang et al. 2020, eq. 9.
    """
    wrong = logits.softmax(1).scatter(1, y[:, None], 0).amax(1)
    return cross_entropy(logits, y) - (_OFFSET - wrong).log()
