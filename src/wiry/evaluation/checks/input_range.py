"""Are the images in [0, 1]? The radius of an attack means nothing otherwise."""

import math

from wiry.core.registry import registry
from wiry.evaluation.subject import Finding, Subject

_BYTE = 255
_ROUNDING = 1e-6  # of a division by 255 in float32


@registry("check").register("input-range")
def input_range(subject: Subject) -> Finding | None:
    """Report images outside [0, 1], and images so dark that they were divided by 255 twice."""
    x = subject.x
    if x.numel() == 0:
        return None
    low, high = float(x.min()), float(x.max())
    outside = int(((x < 0) | (x > 1) | x.isnan()).sum())
    if math.isnan(low) or math.isnan(high):
        what = f"{int(x.isnan().sum())} pixels are not numbers; repair the data"
    elif not x.is_floating_point():
        what = f"The pixels are {x.dtype}, not floats in [0, 1]; give x.float() / {_BYTE}"
    elif low >= 0 and 1 < high <= _BYTE:
        what = f"Pixels run from {low:.4g} to {high:.4g}, not from 0 to 1; divide them by {_BYTE}"
    elif outside:
        what = (
            f"Pixels run from {low:.4g} to {high:.4g}, not from 0 to 1; if they are normalised, "
            "undo that and make the normalisation the first layer of the network"
        )
    elif high <= (1 + _ROUNDING) / _BYTE:
        what = f"No pixel is above {high:.3g}; were they divided by {_BYTE} twice?"
    else:
        return None
    return Finding(
        "input-range",
        "error",
        f"{what}. Attacks move pixels by eps on the scale from 0 to 1 and clip them there.",
        {"lowest": _plain(low), "highest": _plain(high), "pixels_outside": outside},
    )


def _plain(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None
