"""A network whose answers and input gradients are reckoned on the weights that are not zero.

The torch side of the compiled core in `wiry.runtime`: eval mode, float32, CPU. Weights have no
gradients here, so it is for attacks and for answers, not for training steps; `inner` says where it
takes the place of a network.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wiry.core.errors import UserError
from wiry.engine.lower import Lowered, lower
from wiry.runtime.runtime import make_plan
from wiry.runtime.simplify import simplify

Operations = list[dict[str, Any]]
Array = np.ndarray[Any, Any]


class SparseNetwork(nn.Module):
    """A network's function, with its values as they were at the last `refresh`.

    It holds no parameters of its own and is always in eval mode.

    Args:
        model: on the CPU; not changed.
        input_shape: of one image, channels first.
        lowered: what `lower` made of the network, if that is known.

    Raises:
        UserError: if the network has a layer that the runtime does not know, or the compiled core
            is not there.
    """

    def __init__(
        self, model: nn.Module, input_shape: Sequence[int], lowered: Lowered | None = None
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self._model = (model,)  # in a tuple, so that it is no submodule
        self._lowered = lowered or lower(model, input_shape)
        self._baked = self._values_in_graph()
        self._fixed: list[Array] = []
        self._plan: Any = None
        self.refresh()

    @property
    def num_norms(self) -> int:
        """Number of batch norms, which are in the weights here."""
        return sum(op.kind == "batch_norm" for op in self._lowered.graph.ops)

    def refresh(self) -> None:
        """Take over the network's values; which weights are zero may have changed too."""
        state = self._model[0].state_dict()
        if any(not torch.equal(value, state[name]) for name, value in self._baked.items()):
            self._lowered = lower(self._model[0], self.input_shape)
            self._baked = self._values_in_graph()
        arrays = {n: t.numpy() for n, t in state.items() if t.dtype == torch.float32}
        operations = simplify(self._lowered.graph, arrays)
        fixed = _fixed(operations)
        if self._plan is None or not all(map(np.array_equal, self._fixed, fixed)):
            self._plan = make_plan(
                operations,
                self.input_shape,
                num_threads=torch.get_num_threads(),
                instruction_set=None,
                options={"tune": False},  # results must not depend on timings
            )
        else:
            for index, operation in enumerate(operations):
                if "weight" in operation:
                    self._plan.set_weights(index, operation["weight"], operation["bias"])
        self._fixed = fixed

    def _values_in_graph(self) -> dict[str, Tensor]:
        state = self._model[0].state_dict()
        return {name: state[name].clone() for name in self._lowered.baked}

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise UserError(
                f"the sparse engine takes float32 on the CPU, got {x.dtype}, {x.device}"
            )
        return _Answer.apply(x, self._plan)  # type: ignore[no-any-return]


class _Answer(torch.autograd.Function):
    """The plan as a function of the images; its gradient may be asked for several times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Any) -> Tensor:
        images = x.detach().contiguous().numpy()
        if not ctx.needs_input_grad[0]:
            return torch.from_numpy(plan.run(images))
        logits, ctx.tape = plan.forward(images)
        ctx.plan = plan
        return torch.from_numpy(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return torch.from_numpy(ctx.plan.backward(ctx.tape, gradient.contiguous().numpy())), None


def _fixed(operations: Operations) -> list[Array]:
    """Return copies of what a plan keeps: where weights are not zero, and affine numbers."""
    found = []
    for operation in operations:
        if "weight" in operation:
            found.append(operation["weight"] != 0)
        elif "scale" in operation:
            found += [operation["scale"].copy(), operation["shift"].copy()]
    return found
