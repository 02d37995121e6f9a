"""How many images at once: a fixed number, or what fits; halved when memory runs out.

An image's random stream is its own, so a batch may be any size. Data stay on the host; a device
holds one batch.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.evaluation.judge import device_of

BatchSize = int | Literal["auto"]

CPU_BATCH = 128
"""Of CIFAR images on a CPU: more at once are no faster, an image each, and leave the caches."""

_COPIES = 12  # tensors of the images' size that an attack holds: points, gradients, best so far
_CIFAR_ENTRIES = 3 * 32 * 32
_SHARE = 0.6  # of the free memory
_LIMIT = 4096

Answer = TypeVar("Answer")


class Batching:
    """The size of batches in one evaluation, which shrinks where memory runs out.

    Args:
        size: images at once, or "auto".

    Raises:
        UserError: for a size that is neither "auto" nor at least 1.

    Attributes:
        size: images at once, from now on.
        num_halved: how often memory ran out.
    """

    def __init__(self, size: BatchSize, model: nn.Module, x: Tensor) -> None:
        if size != "auto" and (isinstance(size, str) or size < 1):
            raise UserError(f"batch size must be auto or at least 1, got {size!r}")
        self.size = automatic(model, x) if size == "auto" else size
        self.num_halved = 0

    def apply(self, work: Callable[[Tensor], list[Answer]], index: Tensor) -> list[Answer]:
        """Return what `work` says of some images, in parts if they do not fit into memory at once.

        Raises:
            UserError: if not even one image fits.
        """
        try:
            return work(index)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(index) <= 1:
                raise UserError(
                    f"memory does not suffice for one image at a time: {error}. Take a smaller "
                    "network, a device with more memory, or another attack"
                ) from error
        self.num_halved += 1
        self.size = max(min(self.size, len(index)) // 2, 1)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [answer for part in index.split(self.size) for answer in self.apply(work, part)]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory has run out, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def automatic(model: nn.Module, x: Tensor) -> int:
    """Return how many images to attack at once: what fits on a GPU, 128 of CIFAR's on a CPU.

    Small images are for small networks, where the cost of a call is divided by the batch: up to
    1,024 of them.
    """
    device = device_of(model)
    if device.type != "cuda":
        return min(CPU_BATCH * max(_CIFAR_ENTRIES // max(x[0].numel(), 1), 1), 8 * CPU_BATCH)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    images = x[:8].to(device).requires_grad_()
    torch.autograd.grad(model(images).sum(), images)
    an_image = (torch.cuda.max_memory_allocated(device) - before) / len(images)
    held = _COPIES * x[0].numel() * x.element_size()
    return fitting(torch.cuda.mem_get_info(device)[0], an_image + held)


def fitting(free: float, an_image: float) -> int:
    """Return the power of two of images that fits into a share of the free memory, at most 4096.

    Args:
        free: bytes.
        an_image: bytes that an image takes.
    """
    count = int(_SHARE * free / max(an_image, 1))
    return min(1 << max(count.bit_length() - 1, 0), _LIMIT)
