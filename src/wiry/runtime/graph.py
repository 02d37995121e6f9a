"""A network as a list of operations: plain data from a file, checked before anything is reckoned.

`parse_graph` believes nothing: kinds, names, references, ranges, and the size of every value are
checked against the tensors that are there. `wiry.engine.lower` makes graphs, `simplify` makes them
shorter. Nothing is computed here, and nothing here needs more than the standard library.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from wiry.core.errors import UserError
from wiry.runtime.kinds import KINDS, Fault, as_count

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

VERSION = 1
INPUT = "x"
"""Name of the value that holds the images."""

MAX_OPS = 10_000
MAX_ENTRIES = 2**24  # of one value of one image: 64 MiB, an image of 2,300 x 2,300 x 3
_KEYS = {"version", "input", "input_shape", "output", "ops"}


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        kind: a key of `KINDS`.
        name: of the layer in the network, for messages.
        inputs: names of the values that it reads.
        output: name of the value that it makes.
        attributes: what its kind needs; tensors by reference.
        shape: of its output, for one image.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Graph:
    """Operations in an order in which they can run; the last one makes the logits."""

    input_shape: Shape
    ops: tuple[Op, ...]

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.ops[-1].shape[0]

    def to_data(self) -> dict[str, Any]:
        """Return the graph as plain data for a file."""
        return {
            "version": VERSION,
            "input": INPUT,
            "input_shape": list(self.input_shape),
            "output": self.ops[-1].output,
            "ops": [
                {"kind": op.kind, "name": op.name, "inputs": list(op.inputs), "output": op.output}
                | op.attributes
                for op in self.ops
            ],
        }


def parse_graph(data: Any, tensors: Shapes) -> Graph:
    """Return a graph from plain data.

    Args:
        tensors: shape of each float32 tensor that it may refer to.

    Raises:
        UserError: naming the operation and what is wrong with it.
    """
    if not isinstance(data, dict) or data.keys() != _KEYS:
        raise UserError(f"a graph has the entries {', '.join(sorted(_KEYS))} and no others")
    if data["version"] != VERSION or type(data["version"]) is not int:
        raise UserError(
            f"its graph has version {short(data['version'])}, this wiry reads {VERSION}; "
            "install a wiry that fits"
        )
    rows = data["ops"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_OPS:
        raise UserError(f"a graph has a list of 1 to {MAX_OPS:,} operations")
    try:
        if data["input"] != INPUT:
            raise Fault(f"the input is called {short(data['input'])}, not {INPUT!r}")
        values = {INPUT: _input_shape(data["input_shape"])}
        ops = tuple(_parse_op(i, row, values, tensors) for i, row in enumerate(rows))
        last = ops[-1]
        if data["output"] != last.output or len(last.shape) != 1:
            raise Fault("the last operation does not make the logits, one number a class")
    except Fault as error:
        raise UserError(f"its graph is malformed: {error}") from error
    return Graph(values[INPUT], ops)


def short(value: Any) -> str:
    """Return a value for a message: one line, not long, printable whatever it is."""
    text = ascii(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _input_shape(shape: Any) -> Shape:
    if not isinstance(shape, list) or len(shape) not in (1, 3):
        raise Fault("input_shape is not a list of channels, height and width")
    return checked_size(tuple(as_count(n, "input_shape", least=1) for n in shape))


def _parse_op(number: int, row: Any, values: dict[str, Shape], tensors: Shapes) -> Op:
    """Return one operation and note the shape of what it makes."""
    if not isinstance(row, dict):
        raise Fault(f"operation {number} is not an object")
    kind, name, output = row.get("kind"), row.get("name"), row.get("output")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Fault(f"operation {number} has the kind {short(kind)}; known: {', '.join(KINDS)}")
    where = f"operation {number} ({kind}, layer {short(name)})"
    if not isinstance(name, str) or not isinstance(output, str):
        raise Fault(f"{where}: name and output are texts")
    if output in values:
        raise Fault(f"{where} makes {short(output)}, which is there already")
    spec = KINDS[kind]
    if row.keys() != {"kind", "name", "inputs", "output", *spec.attributes}:
        raise Fault(f"{where} has the entries {', '.join(spec.attributes) or 'of every kind'} only")
    try:
        inputs = _inputs(row["inputs"], spec.num_inputs, values)
        attributes = {key: check(row[key], key) for key, check in spec.attributes.items()}
        shapes = [values[value] for value in inputs]
        values[output] = checked_size(spec.shape(shapes, attributes, tensors))
    except Fault as error:
        raise Fault(f"{where}: {error}") from error
    return Op(kind, name, inputs, output, attributes, values[output])


def _inputs(names: Any, number: int, values: Mapping[str, Shape]) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != number:
        raise Fault(f"it reads a list of {number} value{'s'[: number != 1]}")
    for name in names:
        if not isinstance(name, str) or name not in values:
            raise Fault(f"it reads {short(name)}, which nothing before it makes")
    return tuple(names)


def checked_size(shape: Sequence[int]) -> Shape:
    """Return the shape of a value.

    Raises:
        Fault: if it is empty or too large to be believed.
    """
    if min(shape) < 1:
        raise Fault(f"its output would have the shape {tuple(shape)}")
    if math.prod(shape) > MAX_ENTRIES:
        raise Fault(f"a value of more than {MAX_ENTRIES:,} numbers an image is refused")
    return tuple(shape)
