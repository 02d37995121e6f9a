"""Recipes as YAML: reading, `--set` overrides, writing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from wiry.core.errors import UserError, closest
from wiry.core.recipe import Recipe, Stage, Strict
from wiry.core.registry import load_plugins
from wiry.core.types import parse_fractions


def load_recipe(path: Path, overrides: list[str] | None = None, *, plugins: bool = True) -> Recipe:
    """Read a recipe file and apply overrides `a.b=c` (list items by index: `stages.0.epochs=3`).

    Args:
        plugins: whether the modules that the recipe names are imported; not for files from outside.

    Raises:
        UserError: for a missing or malformed file, an unknown key (with the closest one) or a bad
            value.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # a SafeLoader
    except OSError as error:
        raise UserError(f"recipe {str(path)!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(
            f"recipe {str(path)!r} is not valid YAML: {' '.join(str(error).split())[:300]}"
        ) from error
    if data is None:
        raise UserError(f"recipe {str(path)!r} is empty; it needs name, data, model and stages")
    return parse_recipe(data, overrides, source=str(path), import_plugins=plugins)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice, where YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.YAMLError(
                f"the key {twice!r} is there twice, line {node.start_mark.line + 1}"
            )
        return super().construct_mapping(node, deep)


def parse_recipe(
    data: Any,
    overrides: list[str] | None = None,
    *,
    source: str = "recipe",
    import_plugins: bool = True,
) -> Recipe:
    """Make a recipe of plain data (see `load_recipe`)."""
    if not isinstance(data, Mapping):
        raise UserError(
            f"{source}: a recipe is a mapping with name, data, model and stages, "
            f"got {type(data).__name__}"
        )
    _check_size(data, source)
    try:
        data = parse_fractions(data)  # a copy in which aliases are no longer shared
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: {error}") from error
    for override in overrides or []:
        _override(data, override)
    _check_size(data, source)
    plugins = data.get("plugins") or []
    if not isinstance(plugins, list) or not all(isinstance(m, str) for m in plugins):
        raise UserError(f"{source}: plugins must be a list of module names, got {plugins!r}")
    if import_plugins:
        load_plugins(plugins)
    try:
        return Recipe.model_validate(parse_fractions(data))
    except pydantic.ValidationError as error:
        raise UserError(f"{source}: {_one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: {error}") from error


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML without its defaults; `load_recipe` gives the same recipe back."""
    data = recipe.model_dump(exclude_defaults=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _check_size(data: Any, source: str, limit: int = 100_000) -> None:
    """Refuse a recipe that contains itself, or whose YAML aliases unfold into too many values."""
    left, num_values = [data], 0
    while left:
        node = left.pop()
        num_values += 1
        if num_values > limit:
            raise UserError(f"{source}: more than {limit:,} values; does an alias contain itself?")
        if isinstance(node, Mapping | list):
            left += node.values() if isinstance(node, Mapping) else node


def _override(data: Any, override: str) -> None:
    path, found, text = override.partition("=")
    if not found or not path:
        raise UserError(f"--set {override!r}: write path=value, such as stages.0.epochs=3")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--set {override!r}: the value is not valid YAML") from error
    node: Any = data
    keys = path.split(".")
    for position, part in enumerate(keys):
        key: Any = part
        if isinstance(node, list):
            if not part.isdecimal() or len(part) > 9 or int(part) >= len(node):
                raise UserError(f"--set {override!r}: {part!r} is not an index below {len(node)}")
            key = int(part)
        elif not isinstance(node, dict):
            where = ".".join(keys[:position])
            raise UserError(f"--set {override!r}: {where!r} has no parts to set")
        if position == len(keys) - 1:
            node[key] = value
            return
        child = node[key] if isinstance(node, list) else node.get(key, _default_at(part))
        node[key] = {"name": child} if isinstance(child, str) else child
        node = node[key]


def _default_at(key: str) -> Any:
    """Return what an override starts from where the recipe says nothing: a stage's own default."""
    field = Stage.model_fields.get(key)
    return dict(field.default) if field is not None and isinstance(field.default, dict) else {}


def _one_line(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, key = first["loc"]
        return f"unknown key {where!r}{closest(str(key), _keys_at(parents))}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{where}: missing; every {'recipe' if '.' not in where else 'stage'} needs it"
    value = first.get("input")
    shown = "" if first["type"] == "value_error" else f", got {repr(value)[:80]}"
    return f"{where + ': ' if where else ''}{message}{shown}"


def _keys_at(parents: list[Any]) -> list[str]:
    node: type[Strict] = Recipe
    for part in parents:
        if isinstance(part, str) and part in node.model_fields:
            annotation = node.model_fields[part].annotation
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            node = next(
                (c for c in candidates if isinstance(c, type) and issubclass(c, Strict)), node
            )
    return list(node.model_fields)
