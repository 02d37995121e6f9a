"""The network that training attacks search on, where it is not the one that is trained itself.

A twin of the same function may be faster. The loop offers one for the time of a training; what asks
for adversarial images takes it. Nothing here knows what a twin is made of.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator

from torch import nn

Twin = Callable[[], nn.Module]
"""Returns what to search on at the weights of this moment: a twin, or the model itself."""

_TWINS: weakref.WeakKeyDictionary[nn.Module, Twin] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def searching_on(model: nn.Module, twin: Twin | None) -> Iterator[None]:
    """Offer a twin of a model, if there is one, to the attacks inside."""
    if twin is not None:
        _TWINS[model] = twin
    try:
        yield
    finally:
        _TWINS.pop(model, None)


def searched(model: nn.Module, mode: str) -> nn.Module:
    """Return what an attack on a model searches on.

    Args:
        mode: of the model's layers during the attack; twins are in eval mode.
    """
    twin = _TWINS.get(model) if mode == "eval" else None
    return model if twin is None else twin()
