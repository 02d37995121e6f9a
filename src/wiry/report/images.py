"""Example images for the page: what the network got right, what changed, what it then saw.

Images become PNG files inside the page (base64), written by the few lines below.
"""

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wiry.report.evaluations import Examples

_MAX_SIDE = 160
"""Larger images are thinned out: 16 examples of 3 images each must not make the page heavy."""


@dataclass(frozen=True)
class Card:
    """One failure: three images as data URLs and what was said of them."""

    clean: str
    change: str
    adversarial: str
    label: str
    clean_prediction: str
    adversarial_prediction: str
    magnification: int
    distance: str = ""


def cards(
    examples: Examples, class_names: list[str], write: Callable[[float], str] = str
) -> list[Card]:
    """Return one card per example; the change is magnified so that its largest value is visible.

    Args:
        write: how a distance reads, for examples that have one.
    """
    distance = examples.distance

    def name(position: int) -> str:
        return class_names[position] if 0 <= position < len(class_names) else f"class {position}"

    found = []
    for index in range(len(examples.label)):
        clean, adversarial = examples.clean[index], examples.adversarial[index]
        change = adversarial - clean
        times = max(1, int(0.5 / max(float(np.abs(change).max()), 1e-3)))
        found.append(
            Card(
                clean=data_url(clean),
                change=data_url(0.5 + times * change),
                adversarial=data_url(adversarial),
                label=name(int(examples.label[index])),
                clean_prediction=name(int(examples.clean_prediction[index])),
                adversarial_prediction=name(int(examples.adversarial_prediction[index])),
                magnification=times,
                distance="" if distance is None else write(float(distance[index])),
            )
        )
    return found


def data_url(image: np.ndarray) -> str:
    """Return an image (c, h, w) in [0, 1] as the data URL of a PNG."""
    thin = max(1, -(-max(image.shape[1:]) // _MAX_SIDE))
    pixels = np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png(pixels[:, ::thin, ::thin])).decode()


def png(pixels: np.ndarray) -> bytes:
    """Write an image (c, h, w) of bytes, with one or three channels, as a PNG file."""
    channels, height, width = pixels.shape
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(height, width * channels)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
