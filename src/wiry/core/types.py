"""Small value types.

Fractions written `8/255`, and lengths of training written `60ep` or `500it`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_FRACTION = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")
_LENGTH = re.compile(r"(\d+)(ep|it)")


def parse_fractions(value: Any) -> Any:
    """Replace every string `a/b` in nested lists and mappings by the number it stands for.

    Raises:
        ValueError: if the denominator is zero.
    """
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        if float(match[2]) == 0:
            raise ValueError(f"{value!r} divides by zero; write a fraction such as 8/255")
        return float(match[1]) / float(match[2])
    if isinstance(value, Mapping):
        return {key: parse_fractions(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [parse_fractions(item) for item in value]
    return value


def _check_length(text: str) -> str:
    if not _LENGTH.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a length of training; write '60ep' (epochs) or '500it' (steps)"
        )
    return text


def to_steps(length: str, steps_per_epoch: int) -> int:
    """Convert `60ep` or `500it` to optimizer steps."""
    number, unit = _LENGTH.fullmatch(_check_length(length)).groups()  # type: ignore[union-attr] # checked
    return int(number) * (steps_per_epoch if unit == "ep" else 1)


Fraction = Annotated[float, BeforeValidator(parse_fractions)]
"""A number that may be written as a fraction, `8/255`."""

Length = Annotated[
    str, AfterValidator(_check_length), Field(json_schema_extra={"pattern": r"^\d+(ep|it)$"})
]
"""A length of training with its unit: `60ep` or `500it`."""
