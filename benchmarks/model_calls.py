"""The floor of an attack: the network's answers that it asked for, each at its price alone.

Calls are counted on the private copy that attacks search on and on the network itself, by batch
size; the price of each kind is taken in plain torch on the private copy. Answers to images of which
a square has changed count as whole ones, however they are reckoned. Not a benchmark itself.
"""

import collections
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wiry.attacks.nearby import Nearby
from wiry.evaluation import session
from wiry.evaluation.fold import arranged

_SECONDS = 0.1  # that each kind of call is repeated for, at least
_MAX_SIZES = 24  # prices of further batch sizes lie on the lines between those measured


class Kind(NamedTuple):
    """A call of the network."""

    batch_size: int
    with_gradient: bool  # on the input


class Calls:
    """How often the network was called, by kind; `searched` is the copy that was called."""

    def __init__(self) -> None:
        self.counts: collections.Counter[Kind] = collections.Counter()
        self.searched: nn.Module | None = None

    def watch(self, model: nn.Module) -> None:
        """Count the calls of a network from now on."""
        model.register_forward_pre_hook(self._count)

    def _count(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        self.counts[Kind(len(x), torch.is_grad_enabled() and x.requires_grad)] += 1

    def prices(self, x: Tensor) -> dict[Kind, float]:
        """Return the CPU seconds of a call of each kind alone, on images like these."""
        assert self.searched is not None
        found = {}
        for with_gradient in (False, True):
            sizes = sorted({kind.batch_size for kind in self.counts if kind[1] == with_gradient})
            prices = _prices(self.searched, x, sizes, with_gradient)
            found |= {Kind(size, with_gradient): price for size, price in prices.items()}
        return found


def cost(counts: Mapping[Kind, int], prices: Mapping[Kind, float]) -> float:
    """Return the CPU seconds of calls at their prices."""
    return sum(prices[kind] * count for kind, count in counts.items())


@contextlib.contextmanager
def counting(model: nn.Module) -> Iterator[Calls]:
    """Count the calls that an evaluation of a network makes inside."""
    calls, folded, answers = Calls(), session.folded, Nearby.answers
    handle = model.register_forward_pre_hook(calls._count)

    def watched(original: nn.Module, probe: Tensor) -> tuple[nn.Module, int]:
        handle.remove()  # folding copies hooks, and its own looks are not the attack's
        calls.searched, num_folded = folded(original, probe)
        calls.watch(calls.searched)
        calls.watch(original)
        return calls.searched, num_folded

    def counted(self: Nearby, points: Tensor, *where: Tensor) -> Tensor:
        calls.counts[Kind(len(points), False)] += 1
        return answers(self, points, *where)

    session.folded, Nearby.answers = watched, counted  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        session.folded, Nearby.answers = folded, answers  # type: ignore[method-assign]
        for hook in list(model._forward_pre_hooks):
            del model._forward_pre_hooks[hook]


def call_seconds(model: nn.Module, x: Tensor, with_gradient: bool) -> float:
    """Return the CPU seconds of one call: the median of five repetitions, each of many calls."""
    image = x.clone().requires_grad_(with_gradient)
    with torch.set_grad_enabled(with_gradient):
        _call(model, image)
        began = time.process_time()
        _call(model, image)
        once = max(time.process_time() - began, 1e-5)
        repeats = max(round(_SECONDS / 5 / once), 1)
        seconds = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(repeats):
                _call(model, image)
            seconds.append((time.process_time() - began) / repeats)
    return sorted(seconds)[2]


def _call(model: nn.Module, image: Tensor) -> None:
    logits = model(image)
    if image.requires_grad:
        torch.autograd.grad(logits, image, torch.ones_like(logits))


def _prices(model: nn.Module, x: Tensor, sizes: list[int], with_gradient: bool) -> dict[int, float]:
    if not sizes:
        return {}
    step = max(len(sizes) / _MAX_SIZES, 1)
    asked = sorted({sizes[min(int(i * step), len(sizes) - 1)] for i in range(_MAX_SIZES)})
    asked = sorted({*asked, sizes[-1]})
    many = arranged(model, x.repeat(-(-sizes[-1] // len(x)), 1, 1, 1))
    known = {size: call_seconds(model, many[:size], with_gradient) for size in asked}
    return {size: _between(known, size) for size in sizes}


def _between(known: dict[int, float], size: int) -> float:
    below = max(known_size for known_size in known if known_size <= size)
    above = min(known_size for known_size in known if known_size >= size)
    if above == below:
        return known[below]
    share = (size - below) / (above - below)
    return known[below] * (1 - share) + known[above] * share
