"""From a network to a graph of the runtime: exported by torch, then operator by operator.

No class of networks is known here: whatever torch.export makes of a network is taken if the runtime
has its operators, and refused by layer and operator if not. A graph is accepted if it answers like
the network. What a program becomes is told in `translate`, what a graph is in `wiry.runtime`.
"""

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.engine.replay import replay
from wiry.engine.translate import Translation
from wiry.runtime.graph import Graph, parse_graph

_TOLERANCE = 1e-4  # relative to the largest logit: another order of summation, not another network


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A network as a graph.

    Attributes:
        graph: refers to the tensors of the network's state by name.
        baked: names of the tensors whose values are numbers in the graph; where they change, the
            graph does.
    """

    graph: Graph
    baked: frozenset[str]


def lower(model: nn.Module, input_shape: Sequence[int]) -> Lowered:
    """Return a network in eval mode as a graph; the network is left as found.

    Raises:
        UserError: naming the layer and the operator that the runtime does not know.
    """
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            if tensor.dtype != torch.float32:
                kind = str(tensor.dtype).removeprefix("torch.")
                raise UserError(f"{name!r} is {kind}; the runtime needs float32: model.float()")
    if any(t.device.type != "cpu" for t in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).cpu()
    with _in_eval_mode(model), torch.no_grad():
        images = torch.rand(3, *input_shape, generator=stream(0, "lower", "probe"))
        state = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
        translation = Translation(_exported(model, images), state)
        data = translation.to_data(list(input_shape))
        graph = parse_graph(data, tensor_shapes(state))
        _check_answers(model, graph, state, images)
    return Lowered(graph, frozenset(translation.baked))


def tensor_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that a graph may refer to."""
    return {name: tuple(t.shape) for name, t in state.items() if t.dtype == torch.float32}


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def _exported(model: nn.Module, images: Tensor) -> Any:
    """Return the network as torch's program of operators without side effects, for any batch."""
    batch = ({0: torch.export.Dim.DYNAMIC},)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch to its own developers
            program = torch.export.export(model, (images,), dynamic_shapes=batch)
            return program.run_decompositions({})
    except Exception as error:  # whatever a network's own code raises when it is exported
        fault = (
            str(error).strip().partition("\n")[0][:200]
        )  # torch's first line, without its frames
        raise UserError(
            f"{type(model).__name__} cannot be exported by torch for batches of any number of "
            f"images {tuple(images.shape[1:])}: {type(error).__name__}: {fault}"
        ) from error


def _check_answers(
    model: nn.Module, graph: Graph, state: Mapping[str, Tensor], images: Float[Tensor, "n ..."]
) -> None:
    """Compare graph and network on a few images.

    Raises:
        UserError: if they differ by more than rounding.
    """
    expected, found = model(images), replay(graph, state, images)
    scale = float(expected.abs().amax()) if expected.numel() else 0.0
    if not torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * scale, equal_nan=True):
        raise UserError(
            f"{type(model).__name__} answers otherwise than its operators do (by "
            f"{float((found - expected).abs().max()):g}, the largest logit is {scale:g}): it draws "
            "random numbers, or keeps something between calls"
        )
