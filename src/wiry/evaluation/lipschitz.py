"""Local Lipschitz constants of margins: sampled from below, bounded from above, and what follows.

A margin is the predicted class's logit minus another's. Its gradient's q-norm over a ball of the
dual norm p bounds how fast a perturbation can eat it up (Hein and Andriushchenko 2017). Sampled
constants are too small, so what is computed from them is an estimate; the bounds from products of
norms are honest and loose. Condition numbers of the weights stand beside them, because pruning may
lower the one and raise the other (Feng et al. 2025). Distances found by attacks are elsewhere.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.projections import Ball
from wiry.core.draws import Draws
from wiry.core.errors import UserError
from wiry.core.mask import prunable
from wiry.evaluation.judge import device_of, frozen

Order = Literal[1, 2]
"""q of the gradient's norm: 1 goes with linf attacks, 2 with l2."""

_DUAL = {1: "linf", 2: "l2"}
_CONTRACTING = (nn.ReLU, nn.Identity, nn.Flatten)  # Lipschitz constant 1 in every p-norm


def sampled_lipschitz(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    *,
    order: Order,
    radius: float,
    num_samples: int,
    generator: torch.Generator | Draws,
) -> Float[Tensor, "n classes"]:
    """Return the largest gradient norm of each margin at the image and random points of its ball.

    The ball has the dual norm: l2 for order 2, linf for order 1, and is clipped to [0, 1]. The
    predicted class's own entry is 0. A lower bound of the true local constant.

    Source: the quantity of Weng et al. 2018 (CLEVER), without their extreme-value fit.

    Args:
        radius: of the ball, pixels in [0, 1]; 0 looks at the image only.
        num_samples: random points beside the image.
        generator: one for all images, or a stream for each.
    """
    device = device_of(model)
    x = x.to(device)
    with frozen(model), torch.enable_grad():
        predicted = model(x).argmax(1)
        largest = margin_gradient_norms(model, x, predicted, order=order)
        ball = Ball(x, _DUAL[order], radius)
        for _ in range(num_samples if radius > 0 else 0):
            norms = margin_gradient_norms(model, ball.draw(generator), predicted, order=order)
            largest = largest.maximum(norms)
    return largest.cpu()


def margin_gradient_norms(
    model: nn.Module, x: Float[Tensor, "n c h w"], predicted: Int[Tensor, " n"], *, order: Order
) -> Float[Tensor, "n classes"]:
    """Return the norm of the gradient of logit `predicted` minus each logit, at `x` itself.

    The model is expected in eval mode; see `frozen`.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        columns = model(point).unbind(1)
        gradients = torch.stack(
            [torch.autograd.grad(c.sum(), point, retain_graph=True)[0].flatten(1) for c in columns],
            dim=1,
        )
    own = gradients[torch.arange(len(x), device=x.device), predicted]
    return (own[:, None] - gradients).norm(p=order, dim=2)


@torch.no_grad()
def product_lipschitz(
    model: nn.Module, *, order: Order, norm: Literal["paper", "spectral"] = "paper"
) -> Float[Tensor, "classes classes"]:
    """Return an upper bound of the Lipschitz constant of every margin of a fully connected network.

    Entry (i, k) is |w_i - w_k|_q times the product over the layers before of |W|_F for q = 2 and of
    the largest row sum of |W| for q = 1, and of 1 / std of a normalising first layer. It holds at
    every image, so it is a local bound for every radius.

    Source: Guo et al. 2018, Theorem 3.2 (c_2 and c_1). With `norm="spectral"` the largest singular
    value takes the place of the Frobenius norm, which is tighter; for q = 1 there is no difference.

    Raises:
        UserError: for a network with other layers than linear ones, ReLU and normalisation.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    _check_chain(model, layers)
    weights = [layer.weight.detach().cpu() for layer in layers]
    factor = torch.ones(())
    if (normalize := getattr(model, "normalize", None)) is not None:
        factor = (1 / normalize.std.detach().cpu()).max()
    for weight in weights[:-1]:
        if order == 1:
            factor = factor * weight.abs().sum(1).max()
        elif norm == "paper":
            factor = factor * weight.norm()
        else:
            factor = factor * torch.linalg.matrix_norm(weight, 2)
    head = weights[-1]
    return factor * (head[:, None] - head[None]).norm(p=order, dim=2)


@torch.no_grad()
def margin_bound(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    constants: Float[Tensor, "n classes"],
    *,
    radius: float = torch.inf,
) -> Float[Tensor, " n"]:
    """Return min over classes of margin / constant, at most `radius`: no attack within it succeeds.

    Source: Hein and Andriushchenko 2017, Theorem 2.1; Weng et al. 2018, Theorem 3.2. True if the
    constants are true bounds within `radius`; with sampled ones it is an estimate.

    Args:
        constants: Lipschitz constant of each margin; rows of `product_lipschitz` at the predicted
            classes, or `sampled_lipschitz`.
    """
    with frozen(model):
        logits = model(x.to(device_of(model))).cpu()
    own, predicted = logits.max(1, keepdim=True)
    quotient = (own - logits) / constants.clamp_min(1e-12)
    return quotient.scatter(1, predicted, torch.inf).amin(1).clamp_max(radius)


@torch.no_grad()
def condition_numbers(model: nn.Module) -> list[dict[str, Any]]:
    """Return, for each prunable weight, its singular values' extremes and condition number.

    Convolutions are taken as matrices of (output, all else). `condition` is largest / smallest of
    all singular values, infinite where rows or columns are dead; `condition_of_rank` takes the
    smallest one that is not zero up to rounding, and `rank` says how many those are.

    Source: Feng et al. 2025, whose constraint is on this number.
    """
    rows = []
    for name, parameter in prunable(model).items():
        matrix = parameter.detach().cpu().double().flatten(1)
        values = torch.linalg.svdvals(matrix)
        tiny = float(values[0]) * max(matrix.shape) * torch.finfo(torch.float32).eps
        alive = values[values > tiny]
        full = len(alive) == len(values)
        largest, smallest = (float(alive[i]) if len(alive) else 0.0 for i in (0, -1))
        of_rank = largest / smallest if len(alive) else torch.inf
        rows.append(
            {
                "name": name,
                "largest": largest,
                "smallest": smallest if full else 0.0,
                "condition": of_rank if full else torch.inf,
                "condition_of_rank": of_rank,
                "rank": len(alive),
            }
        )
    return rows


def _check_chain(model: nn.Module, layers: list[nn.Linear]) -> None:
    others = [
        type(module).__name__
        for module in model.modules()
        if not list(module.children())
        and not isinstance(module, nn.Linear | nn.Sequential)
        and not isinstance(module, _CONTRACTING)
        and module is not getattr(model, "normalize", None)
    ]
    if others or not layers:
        raise UserError(
            "the product of norms is for fully connected networks with ReLU (model 'mlp'); found "
            f"{', '.join(sorted(set(others))) or 'no linear layer'}"
        )
