"""What an attack is, and the guard that every attack works in.

An attack is a frozen dataclass whose fields are its configuration and whose `repr` is its identity.
It knows nothing of training or sparsity: objectives and the evaluation call it. Nothing here moves
a pixel; that is in `projections.py`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Norm = Literal["linf", "l2", "l1"]
Mode = Literal["eval", "train", "as-is"]
Label = Literal["true", "predicted"]
Forward = Callable[[Tensor], Tensor]


class Attack(Protocol):
    """Images in, worse images out.

    The result is detached, lies in [0, 1] and within `eps` of `x` in `norm`. Only the input is
    differentiated: no parameter gets a `.grad`, and the model is left as it was found. All
    randomness comes from `generator`. Images that are misclassified already may come back
    unchanged. In the mode "eval" no image's result depends on the other images of the batch, given
    the random draws, which are made for the whole batch at once.

    An attack with a class attribute `draws_per_image = True` also takes `wiry.core.draws.Draws` for
    `generator`, one stream an image: then no result depends on the batch at all, and the evaluation
    may cut, pool and resume batches as it likes.

    An attack whose `keeps_batch` is true calls the model with all images, in their order, each
    time, and draws uniform and normal numbers only: it can attack several networks at once, each
    with its part of the images (`wiry.train.replicas`).
    """

    @property
    def eps(self) -> float:
        """Radius of the ball, in pixels scaled to [0, 1]."""
        ...

    @property
    def norm(self) -> str:
        """Norm of the ball."""
        ...

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """Return the adversarial images."""
        ...


@contextlib.contextmanager
def attacking(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Set the model's mode and freeze its parameters; put both back at the end, also on error.

    In training mode the batch's own statistics are used, but running statistics are not updated:
    an attack leaves no trace in the model. Gradients are enabled inside. Dropout in training mode
    draws from the global generator, which nothing here can replace.

    Args:
        mode: "eval", "train", or "as-is" to leave every layer in its mode.
    """
    modes: list[tuple[Any, bool]] = [(module, module.training) for module in model.modules()]
    unfrozen = [p for p in model.parameters() if p.requires_grad]
    tracking = []
    try:
        if mode != "as-is":
            model.train(mode == "train")
        for module, _ in modes:
            if module.training and getattr(module, "track_running_stats", False):
                tracking.append(module)
                module.track_running_stats = False
        for parameter in unfrozen:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module in tracking:
            module.track_running_stats = True
        for parameter in unfrozen:
            parameter.requires_grad_(True)


@torch.no_grad()
def predict(model: Forward, x: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """Return the class of the largest logit."""
    return model(x).argmax(1)


def is_trivial(eps: float, x: Float[Tensor, "n c h w"]) -> bool:
    """Say whether there is nothing to search: a ball of radius 0 or no image."""
    return eps == 0 or x.shape[0] == 0


def check_ball(eps: float, norm: str, *, allowed: tuple[str, ...] = ("linf", "l2", "l1")) -> None:
    """Check the fields that every attack has.

    Raises:
        ValueError: for a norm the attack does not have, or a radius that makes no sense.
    """
    if norm not in allowed:
        raise ValueError(f"norm must be {' or '.join(map(repr, allowed))}, got {norm!r}")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a finite number of at least 0, got {eps}")
    if norm == "linf" and eps > 1:
        raise ValueError(
            f"eps must be at most 1 with norm 'linf', because pixels lie in [0, 1], got {eps:g}. "
            f"Did you mean {eps:g}/255?"
        )


def check_counts(**counts: int) -> None:
    """Check numbers of steps, restarts and the like.

    Raises:
        ValueError: naming the first that is below 1.
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_step_size(step_size: float | None) -> None:
    """Check an optional step size.

    Raises:
        ValueError: if it is given and not a positive finite number.
    """
    if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
        raise ValueError(
            f"step_size must be positive, got {step_size}; leave it out for the default"
        )
