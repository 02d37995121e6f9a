"""Which weights go together: from scores and a budget to a mask of single weights or of groups.

A structure is a function of the scores of the prunable weights, what is alive, the number of
weights to keep, and `allocate`, the allocation that the caller has chosen. It decides the form of
the mask; scores and the split over layers come from outside, so any of them fits any structure.

Matrix view: a weight is a matrix with one row an output. The columns of a convolution run over
(kernel row, kernel column, input channel), the input channel fastest: the order in which a
convolution is a matrix product over channels-last images, and so the order in which sparse tensor
cores read it.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.registry import registry
from wiry.sparsify.select import keep_counts, restrict
from wiry.sparsify.units import keep_units

Scores = Mapping[str, Tensor]
Allocate = Callable[[Scores, Mask, int], dict[str, int]]
"""Scores, what is alive and the number to keep -> number to keep in each layer."""


@registry("structure").register("unstructured")
def unstructured(
    model: nn.Module, scores: Scores, alive: Mask, num_keep: int, allocate: Allocate
) -> Mask:
    """Keep single weights wherever they are; the count is exact."""
    return keep_counts(scores, allocate(scores, alive, num_keep))


@registry("structure").register("n-m")
def n_m(
    model: nn.Module,
    scores: Scores,
    alive: Mask,
    num_keep: int,
    allocate: Allocate,
    *,
    n: int = 2,
    m: int = 4,
) -> Mask:
    """Keep at most n of every m consecutive inputs of an output: 2:4 suits sparse tensor cores.

    The best `num_keep` of what the pattern allows; the count is exact. Groups run along the rows of
    the matrix view (see the module's docstring), as cuSPARSELt wants them (NVIDIA, cuSPARSELt:
    50 % sparsity is 2:4 along the rows of the sparse matrix). Convolutions with a multiple of m
    input channels have groups of m channels at one kernel place, as TensorRT wants them; a
    convolution with fewer, such as one that reads images, only suits a matrix product. The last
    group of a row may be shorter than m.

    Args:
        n: weights kept in a group, at most.
        m: inputs in a group.

    Raises:
        UserError: if the pattern does not allow `num_keep` weights.
    """
    check_n_m(n, m)
    allowed = Mask(
        {k: best_of_groups(v, n, m) & alive.get(k, torch.tensor(True)) for k, v in scores.items()}
    )
    if num_keep > (most := allowed.num_kept()):
        total = sum(value.numel() for value in scores.values())
        raise UserError(
            f"structure 'n-m': {n}:{m} leaves at most {most} of {total} weights, asked for "
            f"{num_keep}; the least sparsity is {math.ceil(1e6 * (1 - most / total)) / 1e6:g}"
        )
    restricted = restrict(scores, allowed)
    return keep_counts(restricted, allocate(restricted, allowed, num_keep))


@registry("structure").register("block")
def block(
    model: nn.Module,
    scores: Scores,
    alive: Mask,
    num_keep: int,
    allocate: Allocate,
    *,
    height: int = 1,
    width: int = 4,
) -> Mask:
    """Keep or remove whole blocks of the matrix view: what vector instructions read at once.

    A block's score is the sum of its weights' scores. Never more than `num_keep` weights are kept;
    each layer is short by less than a block. Blocks at the far edges may be smaller.

    Args:
        height: outputs in a block.
        width: inputs in a block.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")

    def label(rows: int, columns: int) -> Int[Tensor, "rows columns"]:
        across = torch.arange(columns) // width
        return (torch.arange(rows) // height)[:, None] * (int(across[-1]) + 1) + across

    units = {name: from_matrix(label(*_size(v)), v.shape) for name, v in scores.items()}
    return keep_units(units, scores, alive, num_keep, allocate)


@registry("structure").register("column")
def column(
    model: nn.Module, scores: Scores, alive: Mask, num_keep: int, allocate: Allocate
) -> Mask:
    """Keep or remove the same weight of all outputs together: a column of the matrix view.

    Source: "column" of Ye et al. 2019. A column's score is the sum of its weights' scores (of
    squares in `admm`). Never more than `num_keep` weights, at least one column a layer.
    """
    units = {
        name: torch.arange(value[0].numel()).view(value[0].shape).expand(value.shape)
        for name, value in scores.items()
    }
    return keep_units(units, scores, alive, num_keep, allocate)


@registry("structure").register("filter-rows")
def filter_rows(
    model: nn.Module, scores: Scores, alive: Mask, num_keep: int, allocate: Allocate
) -> Mask:
    """Keep or remove all weights of an output together: a row of the matrix view.

    Source: "filter" of Ye et al. 2019. Only the weights go, not the bias, the norm or what reads
    the output. Never more than `num_keep` weights, at least one output a layer.
    """
    units = {
        name: torch.arange(len(value)).view(-1, *[1] * (value.dim() - 1)).expand(value.shape)
        for name, value in scores.items()
    }
    return keep_units(units, scores, alive, num_keep, allocate)


def check_n_m(n: int, m: int) -> None:
    """Check a pattern.

    Raises:
        ValueError: if not 1 <= n <= m.
    """
    if not 1 <= n <= m:
        raise ValueError(f"need 1 <= n <= m, got n {n}, m {m}")


def to_matrix(value: Tensor) -> Tensor:
    """Return a weight as a matrix: outputs x (kernel places, input channels)."""
    return value.movedim(1, -1).reshape(len(value), -1)


def from_matrix(matrix: Tensor, shape: torch.Size) -> Tensor:
    """Undo `to_matrix`: return the matrix in a weight's shape."""
    return matrix.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def _size(value: Tensor) -> tuple[int, int]:
    return len(value), value[0].numel()


def _groups(value: Tensor, m: int, fill: float) -> tuple[Tensor, int]:
    """Return the groups of m consecutive entries of each row, filled up, and the row's length."""
    matrix = to_matrix(value)
    padded = nn.functional.pad(matrix, (0, -matrix.shape[1] % m), value=fill)
    return padded.view(len(matrix), -1, m), matrix.shape[1]


def best_of_groups(scores: Float[Tensor, "*shape"], n: int, m: int) -> Bool[Tensor, "*shape"]:
    """Return a mask of the n best of every m consecutive inputs; ties go to the earlier input."""
    groups, num_columns = _groups(scores.detach(), m, float("-inf"))
    best = groups.sort(dim=-1, descending=True, stable=True).indices[..., :n]
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, best, True)
    return from_matrix(kept.flatten(1)[:, :num_columns], scores.shape)


def validate_pattern(mask: Mapping[str, Tensor], n: int, m: int) -> None:
    """Check that no group of m consecutive inputs keeps more than n; see structure `n-m`.

    Entries of one dimension (biases, norms) are not looked at.

    Raises:
        UserError: naming the first layer that breaks the pattern, and in how many groups.
        ValueError: if not 1 <= n <= m.
    """
    check_n_m(n, m)
    for name, value in mask.items():
        if value.dim() < 2:
            continue
        kept = _groups(value.bool().long(), m, 0)[0].sum(-1)
        if wrong := int((kept > n).sum()):
            raise UserError(
                f"the mask is not {n}:{m}: {wrong} of {kept.numel()} groups of {name!r} keep more "
                f"than {n} weights; prune with structure 'n-m'"
            )


def least_sparsity(model: nn.Module, alive: Mask, structure: object) -> float:
    """Return the least sparsity a structure can reach from what is alive: 0 but for `n-m`."""
    spec = registry("structure").normalize(structure)
    if spec["name"] != "n-m":
        return 0.0
    n, m = spec.get("n", 2), spec.get("m", 4)
    most = total = 0
    for name, value in prunable(model).items():
        kept = alive[name] if name in alive else torch.ones_like(value, dtype=torch.bool)
        most += int(_groups(kept.long(), m, 0)[0].sum(-1).clamp(max=n).sum())
        total += value.numel()
    return 1 - most / total
