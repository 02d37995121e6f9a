"""Ranks: which of the processes that train one network together this is, and what they share.

Without an initialised process group there is one rank, and every function here does nothing.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


def is_distributed() -> bool:
    """Say whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return this process's number, 0 if it is alone."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if is_distributed() else 1


def is_first() -> bool:
    """Say whether this process is the one that writes."""
    return rank() == 0


@torch.no_grad()
def average_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in place."""
    if is_distributed():
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor.div_(world_size())


@torch.no_grad()
def broadcast_buffers_(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0, such as running statistics."""
    if is_distributed():
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def from_first(value: T) -> T:
    """Return rank 0's value on every rank."""
    if not is_distributed():
        return value
    values: list[T] = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def barrier() -> None:
    """Wait until every rank has come here."""
    if is_distributed():
        distributed.barrier()
