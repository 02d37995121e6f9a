"""Read arrays of numbers from a pickle without running anything that the file asks for.

A pickle may name any function of any package and have it called. Here a short list of names is
known, each stands for a function of this module instead of its own, and every other name is an
error. Arrays are made from their bytes; numpy's own unpickling is not used either.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.errors import UserError

_NUMBER = re.compile(r"[<>|=]?([uif][1248]|b1)")  # numpy's names of plain numbers


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of numbers in a pickled dictionary by their key; other values are left out.

    Raises:
        UserError: if the file cannot be read, is no such dictionary, or names anything besides
            numpy's arrays of numbers; that name is in the message.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged stream ends in almost any exception
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is not a readable pickle ({type(error).__name__}: {text}); "
            "it is cut short, damaged or of another format"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a dictionary, found {type(content).__name__}")
    return {str(key): value.made() for key, value in content.items() if isinstance(value, _Array)}


class _Global:
    """What stands for a name: it can be called, and nothing in it can be changed by the file."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the file sets the state of a function")


class _DType:
    """A type of numbers, such as "u1", and the order of its bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise UserError(f"it holds an array of type {code!r}; only plain numbers are read")
        self.made = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
        self.made = self.made.newbyteorder(order)


class _Array:
    """An array whose content comes with its state, or that was made from a buffer."""

    def __init__(self) -> None:
        self._made: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, in_columns, content = state
        self._fill(shape, dtype, "F" if in_columns else "C", content)

    def _fill(self, shape: Any, dtype: Any, order: Any, content: Any) -> None:
        if isinstance(content, str):  # bytes of a Python 2 file
            content = content.encode("latin1")
        sound = (
            isinstance(shape, tuple)
            and all(isinstance(size, int) and size >= 0 for size in shape)
            and isinstance(dtype, _DType)
            and order in ("C", "F")
            and isinstance(content, bytes | bytearray)
        )
        if not sound or math.prod(shape) * dtype.made.itemsize != len(content):
            raise pickle.UnpicklingError("an array whose bytes do not fit its shape and type")
        flat = np.frombuffer(content, dtype.made)
        self._made = flat.reshape(shape, order=order)

    def made(self) -> np.ndarray:
        if self._made is None:
            raise UserError("an array of the pickle has no content")
        return self._made


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array._fill(shape, dtype, order, content)
    return array


def _scalar(dtype: Any, content: Any) -> _Array:
    return _from_buffer(content, dtype, (), "C")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


def _not_made(*_: Any) -> None:
    raise pickle.UnpicklingError("an array made by name")


_KNOWN = {
    ("numpy", "ndarray"): _Global(_not_made),  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _Global(_DType),
    ("_codecs", "encode"): _Global(_encode),  # how older protocols write bytes
    **{
        (f"numpy.{core}.{module}", name): _Global(call)
        for core in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name.

        Raises:
            UserError: for any name that is not on the list.
        """
        if (module, name) not in _KNOWN:
            raise UserError(
                f"it asks for {module}.{name}, which may run code; only numpy arrays of numbers "
                "are read. Convert it to .npz or .safetensors where you trust it"
            )
        return _KNOWN[module, name]
