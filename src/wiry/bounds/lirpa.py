"""Bounds by auto_LiRPA, if it is installed: CROWN and alpha-CROWN, and l2 balls.

The only file that imports it. It works on a copy of the network, and its bounds are believed only
if they hold at the images themselves: release 0.3 loses what a normalising first layer subtracts.
What wiry has itself, without the package, is in `certify.py`.
"""

import contextlib
import copy
import importlib
import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError

LirpaMethod = Literal["ibp", "crown-ibp", "crown", "alpha-crown"]
LirpaNorm = Literal["linf", "l2"]

INSTALL = (
    "pip install --no-deps git+https://github.com/Verified-Intelligence/auto_LiRPA; "
    "pip install appdirs graphviz packaging tqdm"
)
"""The release on PyPI is from 2022 and does not run on today's torch and numpy."""

_NAMES = {"ibp": "IBP", "crown-ibp": "CROWN-IBP", "crown": "CROWN", "alpha-crown": "alpha-CROWN"}
_NORMALISATION = {"mean", "std"}
_SAME = 1e-3  # of the largest logit: by how much two ways of computing logits may differ
_TRIALS = ((torch.float64, 1e-10), (torch.float32, 1e-6))  # radii at which no bound is loose


class _Refused(UserError):
    """The package raised; another precision may do."""


def lirpa_margins(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float,
    method: LirpaMethod,
    *,
    norm: LirpaNorm = "linf",
    batch_size: int = 32,
) -> Float[Tensor, "n classes"]:
    """Return lower bounds on logit_y - logit_j over the ball; 0 at j = y.

    The model is judged in eval mode and left as it was.

    Source: Xu et al. 2020 (auto_LiRPA), Zhang et al. 2018 (CROWN), Xu et al. 2021 (alpha-CROWN).

    Args:
        eps: radius, pixels in [0, 1]; a ball in linf is cut to [0, 1], one in l2 is not.
        batch_size: images at once; `crown` holds a matrix for each layer.

    Raises:
        UserError: if auto_LiRPA is not there, or cannot take this network, or answers otherwise.
    """
    if method not in get_args(LirpaMethod) or norm not in get_args(LirpaNorm):
        raise UserError(
            f"auto_LiRPA: no method {method!r} in {norm!r}; known: "
            f"{', '.join(get_args(LirpaMethod))} in {' and '.join(get_args(LirpaNorm))}"
        )
    library, perturbations = _library()
    own = _prepared(model)
    parts = []
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        if not parts:
            _try(library, perturbations, own, images, method)
        rows = _margin_rows(labels, own, images)
        ball = _ball(perturbations, images, eps, norm)
        found = _lower_bounds(library, own, images, ball, rows, method)
        others = torch.arange(rows.shape[2], device=labels.device) != labels[:, None]
        lower = images.new_zeros(others.shape)
        lower[others] = found.flatten()  # row by row, as in `rows`
        parts.append(lower)
    return torch.cat(parts)


def lirpa_certified(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float,
    method: LirpaMethod,
    *,
    norm: LirpaNorm = "linf",
    batch_size: int = 32,
) -> Bool[Tensor, " n"]:
    """Return for which images the model provably says `y` anywhere in the ball.

    See `lirpa_margins`. False proves nothing.
    """
    bound = lirpa_margins(model, x, y, eps, method, norm=norm, batch_size=batch_size)
    own = torch.arange(bound.shape[1], device=y.device) == y[:, None]
    return ((bound > 0) | own).all(1)


def _library() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = ("auto_LiRPA", "auto_LiRPA.perturbations")
            library, perturbations = (importlib.import_module(name) for name in names)
    except ImportError as error:
        raise UserError(
            f"this needs auto_LiRPA, which cannot be imported ({error}). Install it: {INSTALL}. "
            "Without it, the measure 'certified' has IBP and CROWN-IBP in linf"
        ) from error
    return library, perturbations


@torch.no_grad()
def _prepared(model: nn.Module) -> nn.Module:
    """Return a frozen copy in eval mode whose normalisations are convolutions of 1x1.

    A layer that only has a mean and a std per channel is taken for a normalisation; the trial would
    show if it were something else.
    """
    own = copy.deepcopy(model).eval().requires_grad_(False)
    for parent in list(own.modules()):
        for name, child in list(parent.named_children()):
            if (
                list(child.children())
                or {key for key, _ in child.named_buffers()} != _NORMALISATION
            ):
                continue
            mean, std = child.get_buffer("mean"), child.get_buffer("std")
            if mean.dim() == 1 and not list(child.parameters()):
                layer = nn.Conv2d(len(mean), len(mean), 1, groups=len(mean)).to(mean)
                layer.weight.copy_((1 / std)[:, None, None, None])
                layer.bias.copy_(-mean / std)  # type: ignore[union-attr] # it has one
                setattr(parent, name, layer.requires_grad_(False))
    return own


@contextlib.contextmanager
def _in_the_library() -> Iterator[None]:
    """Turn what the library raises inside into a message; its tracing warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # it asserts, and raises whatever torch does
        first = [*str(error).splitlines(), ""][0]
        raise _Refused(
            f"auto_LiRPA cannot take this network: {type(error).__name__}: {first}. The measure "
            "'certified' may"
        ) from error


def _lower_bounds(
    library: Any, model: nn.Module, images: Tensor, ball: Any, rows: Tensor, method: LirpaMethod
) -> Tensor:
    """Return lower bounds on `rows @ logits`, by a trace made anew, for they keep a state."""
    with _in_the_library(), torch.set_grad_enabled(method == "alpha-crown"):
        bounded = library.BoundedModule(model, torch.zeros_like(images), device=images.device)
        (found, *_) = bounded.compute_bounds(
            x=(library.BoundedTensor(images, ball),),
            C=rows,
            method=_NAMES[method],
            bound_upper=False,
        )
    return found.detach()


@torch.no_grad()
def _try(
    library: Any, perturbations: Any, model: nn.Module, images: Tensor, method: LirpaMethod
) -> None:
    """Check that bounds around the images hold there, for each logit and for its negative.

    In float64, which deep networks need to be tight; in float32 where the package refuses.
    """
    for dtype, radius in _TRIALS:
        exact = copy.deepcopy(model).to(dtype)
        try:
            return _check_at(library, perturbations, exact, images.to(dtype), method, radius)
        except _Refused:
            if dtype == torch.float32:
                raise


def _check_at(
    library: Any,
    perturbations: Any,
    model: nn.Module,
    images: Tensor,
    method: LirpaMethod,
    radius: float,
) -> None:
    logits = model(images)
    identity = torch.eye(logits.shape[1], dtype=images.dtype, device=images.device)
    rows = torch.cat([identity, -identity]).repeat(len(images), 1, 1)
    ball = _ball(perturbations, images, radius, "linf")
    same = "ibp" if method == "ibp" else "crown-ibp"  # as CROWN, and cheaper
    lower = _lower_bounds(library, model, images, ball, rows, same)
    excess = float((lower - torch.cat([logits, -logits], 1)).max())
    if not excess <= _SAME * max(1.0, float(logits.abs().max())):
        raise UserError(
            f"auto_LiRPA's bounds do not hold for this network: a lower bound is {excess:.3g} "
            "above the logit it bounds, so nothing that it proves is proven. The measure "
            "'certified' may take the network"
        )


def _ball(perturbations: Any, images: Tensor, eps: float, norm: str) -> Any:
    if norm == "l2":
        return perturbations.PerturbationLpNorm(norm=2.0, eps=eps)
    low, high = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    return perturbations.PerturbationLpNorm(norm=math.inf, eps=eps, x_L=low, x_U=high)


def _margin_rows(y: Tensor, model: nn.Module, images: Tensor) -> Tensor:
    """Return onehot(y) - onehot(j) for all j but y, as (n, classes - 1, classes)."""
    with torch.no_grad():
        num_classes = model(images[:1]).shape[1]
    identity = torch.eye(num_classes, dtype=images.dtype, device=images.device)
    rows = identity[y][:, None] - identity
    other = torch.arange(num_classes, device=y.device) != y[:, None]
    return rows[other].view(len(y), num_classes - 1, num_classes)
