"""Simplified operations reckoned with numpy in float64: plain, slow, and nobody else's code."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def interpret(operations, images):
    """Return the logits of images."""
    values = {"x": images.astype(np.float64)}
    for op in operations:
        inputs = [values[name] for name in op["inputs"]]
        found = KINDS[op["kind"]](op, inputs[0])
        for other in inputs[1:]:
            found = found + other
        values[op["output"]] = np.maximum(found, 0) if op.get("relu") else found
    return values[operations[-1]["output"]]


def windows(op, x, filled):
    """Return the windows of a padded image: (n, c, rows, columns, height, width)."""
    kernel = op["kernel"] if "kernel" in op else op["weight"].shape[2:]
    (up, left), stride = op["padding"], op["stride"]
    x = np.pad(x, ((0, 0), (0, 0), (up, up), (left, left)), constant_values=filled)
    return sliding_window_view(x, tuple(kernel), (2, 3))[:, :, :: stride[0], :: stride[1]]


def conv2d(op, x):
    groups, weight = op["groups"], op["weight"].astype(np.float64)
    parts = zip(
        np.split(windows(op, x, 0.0), groups, axis=1), np.split(weight, groups), strict=True
    )
    found = [np.einsum("ncijhw,dchw->ndij", part, own, optimize=True) for part, own in parts]
    return np.concatenate(found, axis=1) + op["bias"][:, None, None]


def linear(op, x):
    return x @ op["weight"].astype(np.float64).T + op["bias"]


def affine(op, x):
    shape = (-1,) + (1,) * (x.ndim - 2)
    return x * op["scale"].reshape(shape) + op["shift"].reshape(shape)


def avg_pool2d(op, x):
    counted = np.ones_like(x)
    if op["count_include_pad"]:
        count = np.prod(op["kernel"])
    else:
        count = windows(op, counted, 0.0).sum((4, 5))
    return windows(op, x, 0.0).sum((4, 5)) / count


KINDS = {
    "conv2d": conv2d,
    "linear": linear,
    "affine": affine,
    "relu": lambda op, x: np.maximum(x, 0),
    "add": lambda op, x: x,
    "max_pool2d": lambda op, x: windows(op, x, -np.inf).max((4, 5)),
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda op, x: x.mean((2, 3)),
    "flatten": lambda op, x: x.reshape(len(x), -1),
}


def difference(found, expected):
    """Return the largest difference as a share of the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
