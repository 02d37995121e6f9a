"""Pruning without adversarial images: keep what a robust teacher knows, and bottle information up.

Distillation on clean images plus, layer by layer, how much the features depend on the image (to be
small) and on the label (to be large). Dependence is HSIC, the Hilbert-Schmidt independence
criterion, written out here. The teacher is put in by the loop (`teacher:` of the stage).
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.attacks.losses import kl
from wiry.core.batch import Batch, Loss
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.objectives.base import Forward, accuracy, check_weight

_RIDGE = 1e-5  # of the normalised estimator, times the number of images; the published code's


@registry("objective").register("pwoa")
@dataclasses.dataclass(frozen=True)
class Pwoa:
    """T^2 alpha KL_T(teacher || student) + sum_l (lx HSIC(x, z_l) - ly HSIC(y, z_l)), all clean.

    z_l is what each linear layer or convolution but the first reads. Kernels are Gaussian, of width
    `sigma` times the root of the number of features; that of the labels is linear (equal or not).

    Source: Jian et al. 2022, with the constants and the estimator that their code calls.

    Differs: their features of a ResNet are the outputs of blocks, here also those inside. Their
    scripts use the dependence terms in fine-tuning only, the paper in both sparse stages, as here.
    The divergence is a mean over images.

    Published: with the method `pwoa`, ResNet-18 on CIFAR-10, clean / AutoAttack at 0.031
    (AdversarialPruningBenchmark): 83.29/45.35, 82.58/41.25, 76.33/28.95 at 90 / 95 / 99 % sparsity.
    """

    temperature: float = 30.0
    """T: both networks' logits are divided by it."""
    alpha: float = 10.0
    """Weight of the divergence from the teacher."""
    lx: float = 2e-5
    """Weight of the features' dependence on the images."""
    ly: float = 1e-4
    """Weight of the features' dependence on the labels, which is rewarded."""
    sigma: float = 5.0
    """Width of the Gaussian kernels, for one feature."""
    estimator: Literal["normalised", "biased"] = "normalised"
    """`normalised`: that of the code, to which lx and ly belong; `biased`: that of the paper.

    The first lies between 0 and the number of images, the second between 0 and 1.
    """

    replays: ClassVar[int] = 1

    _teacher: nn.Module | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_weight("alpha", self.alpha)
        check_weight("lx", self.lx)
        check_weight("ly", self.ly)
        if self.temperature <= 0 or self.sigma <= 0:
            raise ValueError(
                "temperature and sigma must be above 0, "
                f"got {self.temperature:g} and {self.sigma:g}"
            )

    def with_teacher(self, teacher: nn.Module) -> "Pwoa":
        """Return a copy that asks this network, which is in eval mode and without gradients."""
        assert not teacher.training, "a teacher is in eval mode"
        taught = copy.copy(self)
        object.__setattr__(taught, "_teacher", teacher)
        return taught

    def __call__(
        self, forward: Forward, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> Loss:
        """Return the loss; see `wiry.objectives.base.Objective`."""
        if self._teacher is None:
            raise UserError(
                "objective 'pwoa' has no teacher; set `teacher: STAGE` on the stage, with the name "
                "of an earlier, robust one"
            )
        with torch.no_grad():
            target = (self._teacher(batch.x) / self.temperature).softmax(1)
        with features(model) as hidden:
            logits = forward(batch.x)
        divergence = kl(logits / self.temperature, target).mean()
        total = self.temperature**2 * self.alpha * divergence
        if (self.lx or self.ly) and len(batch.y) > 1:
            total = total + self._dependence(batch, hidden, logits.shape[1])
        return Loss(total, {"accuracy": accuracy(logits, batch.y)})

    def _dependence(self, batch: Batch, hidden: list[Tensor], num_classes: int) -> Tensor:
        labels = nn.functional.one_hot(batch.y, num_classes).to(batch.x.dtype)
        of_x = gaussian_kernel(batch.x.flatten(1), self.sigma)
        of_y = labels @ labels.T
        estimate = normalised_hsic if self.estimator == "normalised" else hsic
        total = batch.x.new_zeros(())
        for value in hidden:
            of_z = gaussian_kernel(value.flatten(1), self.sigma)
            total = total + self.lx * estimate(of_x, of_z) - self.ly * estimate(of_y, of_z)
        return total


@contextlib.contextmanager
def features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the linear layers and convolutions read in the passes inside, but the images.

    A tensor that several layers read is there once. The images are what the first layer reads.
    """
    read: list[Tensor] = []
    hidden: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Any, ...]) -> None:
        if all(given[0] is not known for known in read):
            read.append(given[0])
            if len(read) > 1:
                hidden.append(given[0])

    kinds = (nn.Linear, nn.Conv2d)
    handles = [m.register_forward_pre_hook(keep) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield hidden
    finally:
        for handle in handles:
            handle.remove()


def gaussian_kernel(x: Float[Tensor, "n d"], sigma: float) -> Float[Tensor, "n n"]:
    """Return exp(-|x_i - x_j|^2 / (2 sigma^2 d)): the width grows with the number of features."""
    squares = x.square().sum(1)
    distances = (squares[:, None] + squares - 2 * x @ x.T).clamp_min(0)
    return (-distances / (2 * sigma**2 * x.shape[1])).exp()


def hsic(kernel: Float[Tensor, "n n"], other: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Return the biased estimate tr(K H L H) / (n - 1)^2, with H = I - 1/n.

    Source: Gretton et al. 2005.
    """
    return (_centred(kernel) * _centred(other)).sum() / (len(kernel) - 1) ** 2


def normalised_hsic(
    kernel: Float[Tensor, "n n"],
    other: Float[Tensor, "n n"],
) -> Float[Tensor, ""]:
    """Return tr(R_K R_L) with R_K = K' (K' + 1e-5 n I)^-1 and K' = H K H: scale-free, at most n.

    Source: Fukumizu et al. 2008 (normalised cross-covariance), in the form of the function
    `hsic_normalized_cca` of public code, which the code of Jian et al. 2022 calls by that name.
    """
    return (_whitened(kernel) * _whitened(other).T).sum()


def _whitened(kernel: Tensor) -> Tensor:
    centred = _centred(kernel)
    ridge = _RIDGE * len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return torch.linalg.solve(centred + ridge, centred)


def _centred(kernel: Tensor) -> Tensor:
    means = kernel.mean(0)
    return kernel - means - means[:, None] + means.mean()
