"""`Runtime`: a `.wiry` file as a function from images to logits, numpy in, numpy out, no torch.

It reads the file, checks its graph and hands the simplified operations to the compiled core in
`native/`. Everything that takes time happens there.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.errors import UserError
from wiry.export.sparse_read import SparseContent, read_sparse
from wiry.runtime.graph import Graph, parse_graph
from wiry.runtime.simplify import simplify

Images = np.ndarray[Any, np.dtype[np.float32]]
Logits = np.ndarray[Any, np.dtype[np.float32]]


class Runtime:
    """A sparse network ready to answer; one object may be called from several threads at once.

    Args:
        network: a `.wiry` file, or what `read_sparse` returned of it.
        num_threads: threads that work on one call.
        instruction_set: one of `instruction_sets()`; None takes the best that this CPU has.
        tune: try the kernels that fit a layer when the network is loaded and take the fastest.
            False takes the first that fits: loaded at once, and rounded alike on every load.

    Attributes:
        input_shape: of one image: channels, height and width.
        num_classes: logits of an image.
        facts: what the file says of the network, see `SparseContent.facts`.

    Raises:
        UserError: if the file is damaged, its network has a layer that the runtime does not know,
            or the compiled core is not there.
    """

    def __init__(
        self,
        network: Path | str | SparseContent,
        *,
        num_threads: int = 1,
        instruction_set: str | None = None,
        tune: bool = True,
    ) -> None:
        path = network if isinstance(network, Path | str) else "the network"
        content = network if isinstance(network, SparseContent) else read_sparse(network)
        graph = graph_of(content, str(path))
        arrays = {name: a.values for name, a in content.arrays.items() if a.dtype == "F32"}
        self.facts = content.facts
        self.input_shape, self.num_classes = graph.input_shape, graph.num_classes
        self._plan = make_plan(
            simplify(graph, arrays),
            graph.input_shape,
            num_threads=num_threads,
            instruction_set=instruction_set,
            options={"tune": tune},
        )

    def __call__(self, images: Images) -> Logits:
        """Return the logits of a batch of images, in [0, 1] and channels first.

        Raises:
            UserError: if they are not floating-point numbers of the network's input shape.
        """
        images = np.asarray(images)
        if images.dtype.kind != "f":
            raise UserError(
                f"images must be floating-point numbers in [0, 1], got {images.dtype}; "
                "bytes: images.astype('float32') / 255"
            )
        if images.ndim == 0 or images.shape[1:] != self.input_shape:
            raise UserError(
                f"the network takes images of shape (n, {', '.join(map(str, self.input_shape))}), "
                f"got {images.shape}"
            )
        if len(images) == 0:
            return np.empty((0, self.num_classes), np.float32)
        return self._plan.run(np.ascontiguousarray(images, np.float32))

    def describe(self) -> list[dict[str, Any]]:
        """Return a row for each operation: its layer, the kernel chosen for it and its density."""
        return self._plan.describe()


def instruction_sets() -> list[str]:
    """Return the instruction sets that this CPU has kernels for, the best first.

    Raises:
        UserError: if the compiled core is not there.
    """
    return native().instruction_sets()


def graph_of(content: SparseContent, where: str) -> Graph:
    """Return the checked graph of a file's network.

    Args:
        where: the file, for messages.

    Raises:
        UserError: if the file has none or it is malformed.
    """
    if (data := content.facts.get("graph")) is None:
        reason = content.facts.get("graph_fault") or "it was saved by a wiry without the runtime"
        raise UserError(f"{where} has no graph for the sparse runtime: {reason}")
    shapes = {name: a.values.shape for name, a in content.arrays.items() if a.dtype == "F32"}
    try:
        graph = parse_graph(data, shapes)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if list(graph.input_shape) != content.facts["input_shape"]:
        raise UserError(f"{where}: its graph takes images of another shape than its manifest says")
    return graph


def make_plan(
    operations: list[dict[str, Any]],
    input_shape: tuple[int, ...],
    *,
    num_threads: int,
    instruction_set: str | None,
    options: Mapping[str, Any],
) -> Any:
    """Return a plan of the compiled core; see `native/` for what it can do.

    Raises:
        UserError: if the core is not there or refuses.
    """
    if num_threads < 1:
        raise UserError(f"num_threads must be at least 1, got {num_threads}")
    core = native()
    known = core.instruction_sets()
    if instruction_set is not None and instruction_set not in known:
        raise UserError(f"this CPU has no {instruction_set!r}; it has: {', '.join(known)}")
    try:
        return core.Plan(
            operations,
            list(input_shape),
            num_threads,
            instruction_set or known[0],
            dict(options),
        )
    except ValueError as error:
        raise UserError(f"the sparse runtime cannot run this network: {error}") from error


def native() -> Any:
    """Return the compiled core.

    Raises:
        UserError: if it is not there, with what to do.
    """
    try:
        return importlib.import_module("wiry.runtime._native")
    except ImportError as error:
        raise UserError(
            f"the sparse runtime is not compiled ({error}): wiry was installed without a C++17 "
            "compiler. Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; "
            "macOS: xcode-select --install; Windows: Visual Studio Build Tools) and run "
            "`pip install --force-reinstall --no-deps --no-cache-dir wiry`, or `make native` in a "
            "checkout"
        ) from error
