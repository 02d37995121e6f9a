"""Ask a model, unharmed, for its answers under attack: freezing, predicting, attacking, checking.

The per-sample table is built from these parts. No share and no file is made here.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.draws import Draws
from wiry.core.errors import UserError
from wiry.evaluation.fold import arranged

NO_CLASS = -1
"""Prediction of a model whose logits are not finite: wrong, whatever the label."""

_ORDERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
_PIXEL_TOLERANCE = 1e-6  # rounding of x + delta in float32, a pixel
_BALL_TOLERANCE = 1e-5  # of eps: rounding of a projection that scales by eps / norm


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode with frozen parameters, and leave it as found, also on error.

    Each module's mode, each parameter's `requires_grad` and the values of the buffers come back.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with buffers_kept(model):
            model.eval()
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Give the buffers their values back: an attack in train mode moves batch norm's averages."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@torch.no_grad()
def predict(
    model: nn.Module, x: Float[Tensor, "n c h w"], *, batch_size: int = 250
) -> Int[Tensor, " n"]:
    """Return the class of each image on the CPU, `NO_CLASS` where a logit is not finite."""
    device, predictions = device_of(model), []
    for start in range(0, len(x), batch_size):
        logits = model(x[start : start + batch_size].to(device))
        finite = logits.isfinite().all(dim=1)
        predictions.append(logits.argmax(dim=1).masked_fill(~finite, NO_CLASS).cpu())
    return torch.cat(predictions) if predictions else torch.empty(0, dtype=torch.long)


@torch.no_grad()
def answers(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], int]:
    """Return the class of each image, the lead of its label, and how many classes there are.

    Both are on the CPU. Where a logit is not finite they are `NO_CLASS` and -inf. The lead is the
    label's logit minus the largest other one.

    Raises:
        UserError: if the network's answer is no table of logits that has the labels.
    """
    logits = model(x.to(device_of(model)))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"the network must return logits of shape ({len(x)}, classes) for {len(x)} images, "
            f"got {found}; wrap it so that it does"
        )
    logits, num_classes = logits.float().cpu(), logits.shape[1]
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
        raise UserError(
            f"labels run from {int(y.min())} to {int(y.max())}, but the network has "
            f"{num_classes} classes; are the data those it was trained on?"
        )
    finite = logits.isfinite().all(dim=1)
    prediction = logits.argmax(dim=1).masked_fill(~finite, NO_CLASS)
    own = logits.gather(1, y[:, None]).squeeze(1)
    lead = own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return prediction, lead.masked_fill(~finite, -torch.inf), num_classes


def adversarials(
    model: nn.Module,
    attack: Any,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    generator: torch.Generator | Draws,
) -> Float[Tensor, "n c h w"]:
    """Return the attack's images on the CPU, checked to be inside its ball and in [0, 1].

    Raises:
        AssertionError: naming the attack, if an image is outside; the attack is wrong then.
    """
    device = device_of(model)
    try:
        with torch.enable_grad(), buffers_kept(model):
            images = arranged(model, x.to(device))
            found = attack(model, images, y.to(device), generator).detach().cpu().contiguous()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        raise UserError(
            f"{attack!r} needs gradients, and the network's answer has none (it runs under "
            "no_grad, or an operation in it has no derivative); only attacks without gradients, "
            "such as square, can judge it"
        ) from error
    check_inside(attack, x.cpu(), found)
    return found


def check_inside(
    attack: Any, x: Float[Tensor, "n c h w"], adversarial: Float[Tensor, "n c h w"]
) -> None:
    """Check that adversarial images are within `attack.eps` in `attack.norm` and in [0, 1].

    Raises:
        AssertionError: naming the attack and the largest violation.
    """
    assert adversarial.shape == x.shape, f"{attack!r} changed the shape of the images"
    assert attack.norm in _ORDERS, f"{attack!r} has a norm unknown here: {attack.norm!r}"
    low, high = float(adversarial.min()), float(adversarial.max())
    assert low >= 0 and high <= 1, f"{attack!r} left [0, 1]: pixels from {low} to {high}"
    order = _ORDERS[attack.norm]
    distance = (adversarial.double() - x.double()).flatten(1).norm(p=order, dim=1)
    rounding = _PIXEL_TOLERANCE * x[0].numel() ** (1 / order)
    assert bool((distance <= attack.eps * (1 + _BALL_TOLERANCE) + rounding).all()), (
        f"{attack!r} left its ball: {attack.norm} distance {float(distance.max())}, "
        f"eps {attack.eps}"
    )
