"""The JSON schema of recipes, for editors: every field, every registered component, fractions."""

from typing import Any

from wiry.core.recipe import Recipe
from wiry.core.registry import kinds, registry

_FRACTION = {"type": "string", "pattern": r"^\s*[+-]?\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*$"}


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipes with every registered component's fields."""
    schema = Recipe.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for kind in kinds():
        names = registry(kind).names()
        options: list[dict[str, Any]] = [{"enum": names}]
        for name in names:
            fields = registry(kind).field_schema(name)
            definitions.update(fields.pop("$defs", {}))
            options.append(fields | {"description": registry(kind).summary(name)})
        definitions[f"component-{kind}"] = {"anyOf": options}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_rewritten(schema)}


def _rewritten(node: Any) -> Any:
    """Point component fields to their definitions and let every number be a fraction."""
    if isinstance(node, list):
        return [_rewritten(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _rewritten(value) for key, value in node.items()}
    if isinstance(kind := node.pop("component", None), str):
        kept = {key: node[key] for key in ("title", "default", "description") if key in node}
        return {**kept, "$ref": f"#/$defs/component-{kind}"}
    if node.get("type") == "number":
        about = {key: node.pop(key) for key in ("title", "default") if key in node}
        return {**about, "anyOf": [node, _FRACTION]}
    return node
