"""Free adversarial training: one backward pass moves the weights and the perturbation.

The only objective with something to remember, and only from one replay of a batch to the next.
"""

import dataclasses

import torch
from torch import Tensor, nn

from wiry.attacks.base import check_ball, check_counts
from wiry.attacks.projections import Ball
from wiry.core.batch import Batch, Loss
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy, check_share, cross_entropy


@registry("objective").register("free")
@dataclasses.dataclass
class Free:
    """Replay each batch; each replay's input gradient moves the perturbation for the next one.

    Source: Shafahi et al. 2019, Algorithm 1; divide the epochs by `replays` to spend what natural
    training does. Differs: the paper carries the perturbation of one batch on to the next, which
    holds other images; here each batch begins at a uniform draw from the ball, so that a run
    resumes between batches without a saved perturbation. Pixels are clipped to [0, 1].
    """

    eps: float = 8 / 255  # radius of the linf ball and length of a step, pixels in [0, 1]
    replays: int = 4  # m in the paper: optimizer steps on each batch
    label_smoothing: float = 0.0  # share of the label spread over all classes, in [0, 1)

    _batch: Batch | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _ball: Ball | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _images: Tensor | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _num_done: int = dataclasses.field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_ball(self.eps, "linf")
        check_counts(replays=self.replays)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss at the present perturbation; see `wiry.objectives.base.Objective`."""
        if batch is not self._batch or self._num_done >= self.replays:
            self._batch, self._num_done = batch, 0
            self._ball = Ball(batch.x, "linf", self.eps)
            self._images = self._ball.draw(generator)
        assert self._images is not None
        assert self._images.grad is None, "after_backward was not called after the backward pass"
        logits = forward(self._images.requires_grad_())
        total = cross_entropy(self.label_smoothing)(logits, batch.y)
        return Loss(total, {"robust_accuracy": accuracy(logits, batch.y)})

    def after_backward(self) -> None:
        """Move the perturbation by the input gradient of the backward pass that has just run."""
        assert self._images is not None and self._ball is not None, "no loss was computed before"
        assert self._images.grad is not None, "after_backward before loss.total.backward()"
        gradient = self._images.grad
        self._images = self._ball.step_(self._images.detach(), gradient, self.eps)
        self._num_done += 1
