"""Where a changed window of an image is seen in the layers after it, and what was there before.

A convolution sees a square of changed pixels as a larger square of changed outputs. Here is how
such windows grow, and the tables of earlier answers that they are cut from and put into. Which
layers are reckoned so is for `nearby`.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Size = tuple[int, int]


@dataclasses.dataclass
class Window:
    """A part of every image's features that is new; all parts have one size.

    Attributes:
        values: the new features.
        top: first row of the part, an image.
        left: first column of the part.
    """

    values: Float[Tensor, "m c h w"]
    top: Int[Tensor, " m"]
    left: Int[Tensor, " m"]

    @property
    def size(self) -> Size:
        """Height and width of the part."""
        return self.values.shape[2], self.values.shape[3]


@dataclasses.dataclass(frozen=True)
class Reach:
    """What an output of a convolution or a pooling looks at, in rows and in columns."""

    kernel: Size
    stride: Size
    padding: Size

    def grown(self, size: Size, whole: Size) -> Size:
        """Return the size of the outputs that see a window, at most that of all outputs."""
        most = [
            (n + k - 2) // s + 1 for n, k, s in zip(size, self.kernel, self.stride, strict=True)
        ]
        return min(most[0], whole[0]), min(most[1], whole[1])

    def outputs(self, inputs: Size) -> Size:
        """Return how many outputs there are."""
        down, across = (
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(inputs, self.padding, self.kernel, self.stride, strict=True)
        )
        return down, across

    def first(self, start: Tensor, axis: int, length: int, whole: int) -> Tensor:
        """Return the first output of a run of `length` that holds all that see a window."""
        stride = self.stride[axis]
        first = start + (self.padding[axis] - self.kernel[axis] + stride)
        if stride > 1:
            first = first.div(stride, rounding_mode="floor")
        return first.clamp_(0, whole - length)

    def looked_at(self, size: Size) -> Size:
        """Return how many inputs a window of outputs looks at."""
        return (
            (size[0] - 1) * self.stride[0] + self.kernel[0],
            (size[1] - 1) * self.stride[1] + self.kernel[1],
        )

    def skips(self, inputs: Size) -> bool:
        """Return whether no output sees some of the inputs: between two outputs, or at the end."""
        return any(
            k < s or (n + 2 * p - k) % s
            for n, p, k, s in zip(inputs, self.padding, self.kernel, self.stride, strict=True)
        )


class Table:
    """The features of all images at one place of a network, a row of channels a pixel.

    Args:
        features: as they are now; copied.
        padding: rows and columns of zeros around them.
    """

    def __init__(self, features: Float[Tensor, "n c h w"], padding: Size) -> None:
        self.padding, self.shape = padding, features.shape
        down, across = padding
        around = F.pad(features, (across, across, down, down))
        self.height, self.pitch = around.shape[2:]
        self.rows = around.permute(0, 2, 3, 1).reshape(-1, features.shape[1])

    def patch(self, images: Tensor, top: Tensor, left: Tensor, size: Size) -> Tensor:
        """Return (m, h, w, c): a part of each of some images; it may lie on the padding."""
        cells = self._cells(images, top, left, size)
        return self.rows.index_select(0, cells).view(len(images), *size, -1)

    def write(self, images: Tensor, window: Window) -> None:
        """Put windows to the features of some images, all different."""
        cells = self._cells(images, window.top, window.left, window.size)
        self.rows.index_copy_(0, cells, rows_of(window))

    def _cells(self, images: Tensor, top: Tensor, left: Tensor, size: Size) -> Tensor:
        down, across = top + self.padding[0], left + self.padding[1]
        corner = (images * self.height + down) * self.pitch + across
        reach = torch.arange(size[0], device=top.device)[:, None] * self.pitch
        reach = (reach + torch.arange(size[1], device=top.device)).view(-1)
        return (corner[:, None] + reach).view(-1)


def put(patch: Tensor, window: Window, top: Tensor, left: Tensor, *, cut: bool) -> None:
    """Put windows into (m, h, w, c) patches that begin at `top` and `left`.

    Args:
        cut: whether windows may stick out; what does is left out.
    """
    num, height, width, _ = patch.shape
    down = (window.top - top)[:, None] + torch.arange(window.size[0], device=top.device)
    across = (window.left - left)[:, None] + torch.arange(window.size[1], device=top.device)
    each = torch.arange(num, device=top.device)[:, None] * height
    cells = (((each + down) * width)[:, :, None] + across[:, None, :]).view(-1)
    new = rows_of(window)
    if cut:
        fits_down, fits_across = (down >= 0) & (down < height), (across >= 0) & (across < width)
        fits = (fits_down[:, :, None] & fits_across[:, None, :]).view(-1)
        cells, new = cells[fits], new[fits]
    patch.view(-1, patch.shape[3]).index_copy_(0, cells, new)


def rows_of(window: Window) -> Float[Tensor, "cells c"]:
    """Return the new features, a row of channels a pixel."""
    return window.values.permute(0, 2, 3, 1).reshape(-1, window.values.shape[1])
