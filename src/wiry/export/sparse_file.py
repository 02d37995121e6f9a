"""A sparse network as one small `.wiry` file, and back to its tensors, bit for bit.

`save` writes, `load_state` and `load_mask` read; `wiry.load` builds the network again. Here torch
meets the numpy of `sparse_write` and `sparse_read`; the format is described in docs/format.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from wiry.core.errors import UserError
from wiry.core.files import write_atomic
from wiry.core.mask import Mask
from wiry.core.recipe import Recipe
from wiry.evaluation.examination import Evaluation
from wiry.export.sparse_container import MAX_BYTES, NUMPY, Array
from wiry.export.sparse_facts import make_facts
from wiry.export.sparse_read import SparseContent, parse_sparse, read_sparse
from wiry.export.sparse_write import dump_sparse

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_WIDE = (torch.float32, torch.float64)


def save(
    model: nn.Module,
    path: Path | str,
    *,
    input_shape: Sequence[int],
    mask: Mask | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    evaluation: Evaluation | Mapping[str, Any] | None = None,
    dtype: Literal["float16", "bfloat16"] | None = None,
) -> None:
    """Write a network's state to a `.wiry` file: whole or not at all, read back before it is there.

    What the mask leaves out is zero in the file; every other bit of every parameter and buffer
    comes back. The network is not changed. A network that wiry built comes back from `wiry.load`;
    of any other, and of one that was changed since, the file holds the tensors (`load_state`).

    Args:
        input_shape: shape of one input, channels first.
        mask: which weights are there; None stores the zeros of the weights without saying why.
        recipe: how the network was made.
        evaluation: what `wiry.evaluate` found of the network that is in the file, or its record.
        dtype: round float32 and float64 parameters of two or more dimensions to this type, to half
            the size. This changes the network: how many values changed is recorded, and an
            evaluation of it as it was is refused. Tensors are of their own type when they are read.

    Raises:
        UserError: if mask, input shape or class names do not fit, a tensor cannot be stored, or
            `evaluation` is of other weights than those in the file.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a .wiry file needs a name of its own")
    state = _state(model)
    kept = _checked_masks(model, mask, state)
    facts = make_facts(
        model,
        state,
        input_shape=input_shape,
        recipe=recipe,
        class_names=class_names,
        evaluation=evaluation,
    )
    rounded, facts["rounding"] = _rounded(model, _masked(model, state, kept), dtype)
    arrays = {name: _array(tensor) for name, tensor in rounded.items()}
    dtypes = {name: _NAMES[tensor.dtype] for name, tensor in state.items()}
    masks = {name: value.numpy() for name, value in kept.items()}
    data = dump_sparse(arrays, masks, facts, dtypes)
    content = parse_sparse(path, data, max_bytes=2**63)
    if evaluation is not None:
        _check_evaluated(state, content)
    write_atomic(path, data)


def load_state(path: Path | str, *, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Return the tensors of a `.wiry` file on the CPU, ready for `model.load_state_dict`.

    Args:
        max_bytes: most bytes that the tensors may take; a file that says more is refused.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    return state_of(read_sparse(path, max_bytes=max_bytes))


def load_mask(path: Path | str, *, max_bytes: int = MAX_BYTES) -> Mask:
    """Return the mask that a `.wiry` file was saved with, empty if there was none.

    Args:
        max_bytes: see `load_state`.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    masks = read_sparse(path, max_bytes=max_bytes).masks
    return Mask({name: torch.from_numpy(value) for name, value in masks.items()})


def state_of(content: SparseContent) -> dict[str, Tensor]:
    """Return the arrays of a file as tensors that share their memory."""
    types = {name: dtype for dtype, name in _NAMES.items()}
    return {
        name: torch.from_numpy(
            array.values.view("<i2") if array.dtype == "BF16" else array.values
        ).view(types[array.dtype])
        for name, array in content.arrays.items()
    }


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state on the CPU, after a check that a file can hold it."""
    state = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"the state's {name!r} is {type(value).__name__!r}; a .wiry file holds tensors only"
            )
        if is_lazy(value) or value.is_meta:
            raise UserError(f"{name!r} has no values yet; call the network once before saving it")
        if value.layout != torch.strided or value.dtype not in _NAMES:
            what = str(value.dtype if value.layout == torch.strided else value.layout)
            raise UserError(
                f"{name!r} is {what.removeprefix('torch.')}; a .wiry file holds dense tensors of "
                f"{', '.join(str(t).removeprefix('torch.') for t in _NAMES)}; convert it"
            )
        state[name] = value.detach().cpu().contiguous()
    return state


def _array(tensor: Tensor) -> Array:
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    dtype = _NAMES[tensor.dtype]
    return Array(dtype, bits.numpy().view(NUMPY[dtype]))


def _checked_masks(
    model: nn.Module, mask: Mask | None, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if mask is None:
        return {}
    mask.check(dict(model.named_parameters()))
    if unknown := sorted(mask.keys() - state.keys()):
        raise UserError(f"mask entry {unknown[0]!r} is a parameter that the state does not have")
    return {name: value.cpu().contiguous() for name, value in mask.items()}


def _masked(
    model: nn.Module, state: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state with zeros where the mask has them, also under a parameter's other names."""
    masked = dict(state)
    by_parameter: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_parameter.setdefault(id(parameter), []).append(name)
    for names in by_parameter.values():
        for mask in (kept[name] for name in names if name in kept):
            for name in names:
                if name in masked:
                    masked[name] = masked[name].masked_fill(~mask, 0)
    return masked


def _rounded(
    model: nn.Module, state: dict[str, Tensor], dtype: str | None
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the tensors as they are stored, and what rounding did."""
    if dtype is None:
        return state, None
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype not in types:
        raise UserError(f"dtype must be 'float16', 'bfloat16' or None, got {dtype!r}")
    rounded, num_values, num_changed = dict(state), 0, 0
    for name, _ in model.named_parameters(remove_duplicate=False):
        values = state.get(name)
        if values is None or values.dim() < 2 or values.dtype not in _WIDE:
            continue
        rounded[name] = values.to(types[dtype])
        back = rounded[name].to(values.dtype)
        if bool((back.isinf() & ~values.isinf()).any()):
            raise UserError(f"{name!r} has values that {dtype} cannot hold; use 'bfloat16' or None")
        num_values += int(values.count_nonzero())
        num_changed += int(((back != values) & ~values.isnan()).sum())
    return rounded, {"dtype": dtype, "num_values": num_values, "num_changed": num_changed}


def _check_evaluated(state: Mapping[str, Tensor], content: SparseContent) -> None:
    for name, tensor in state_of(content).items():
        if bool(((tensor != state[name]) & ~(tensor.isnan() & state[name].isnan())).any()):
            raise UserError(
                f"the evaluation is of the network as it is, but {name!r} is stored otherwise, "
                "masked or rounded. Save without an evaluation, evaluate what is loaded from the "
                "file, and save that with its evaluation"
            )
