"""How the command line reads small values: pairs, lists of numbers, components with fields."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from wiry.console import parse_number
from wiry.core.errors import UserError
from wiry.core.types import parse_fractions

_OUTSIDE_BRACKETS = r"(?![^\[]*\])"


def parse_values(text: str | None, option: str) -> tuple[float, ...]:
    """Read `0.49,0.48,0.44`; fractions are numbers too.

    Raises:
        UserError: for anything else.
    """
    if text is None:
        return ()
    values = tuple(parse_number(part, option) or 0.0 for part in text.split(","))
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{option} {text!r}: each number must be finite")
    return values


def parse_pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read `key=value`, given several times.

    Raises:
        UserError: for anything else, or a key that is given twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{option} {text!r}: write key=value")
        if key in found:
            raise UserError(f"{option} gives {key!r} twice; give it once")
        found[key.strip()] = value
    return found


def parse_value(text: str, option: str) -> Any:
    """Read a value as a recipe would: number, fraction, true, list, text.

    Raises:
        UserError: if it is no such value.
    """
    try:
        return parse_fractions(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{option}: {text[:80]!r} is not a valid value") from error


def parse_component(text: str, option: str) -> dict[str, Any]:
    """Read `name` or `name:key=value:key=value` as the spec of a component.

    Raises:
        UserError: for anything else.
    """
    name, *fields = re.split(rf":{_OUTSIDE_BRACKETS}", text.strip())
    if not name:
        raise UserError(f"{option} {text!r}: write a name, or name:key=value")
    pairs = parse_pairs(fields, option)
    return {"name": name, **{key: parse_value(value, option) for key, value in pairs.items()}}


def parse_components(texts: Sequence[str] | None, option: str) -> tuple[dict[str, Any], ...]:
    """Read components that are parted by commas, given several times.

    Raises:
        UserError: for anything else.
    """
    parts = [p for text in texts or () for p in re.split(rf",{_OUTSIDE_BRACKETS}", text)]
    return tuple(parse_component(part, option) for part in parts)


def parse_batch_size(text: str) -> int | Literal["auto"]:
    """Read `auto` or a number of images.

    Raises:
        UserError: for anything else.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UserError(f"--batch-size {text!r}: write auto or a whole number of at least 1")
    return int(text)


def parse_arguments(texts: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Read `key=value` as keyword arguments of a function.

    Raises:
        UserError: for anything else.
    """
    pairs = parse_pairs(texts, option)
    return {key: parse_value(value, f"{option} {key}") for key, value in pairs.items()}


def parse_data(text: str | None) -> dict[str, Any] | Path | None:
    """Read the path of an .npz, or a data set.

    Raises:
        UserError: for anything else.
    """
    if text is None:
        return None
    return Path(text) if text.endswith(".npz") else parse_component(text, "--data")
