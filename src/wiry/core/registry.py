"""Find what can be plugged in: decorator plus folder scan, one registry a kind.

A *component spec* is a mapping `{"name": ..., **fields}` (or just the name). `normalize` checks one
and drops the defaults; `build` makes the object. Nothing here knows a concrete component.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from wiry.core.errors import UserError, closest
from wiry.core.signature import component, fields_model, nested_kind, parameters_of
from wiry.core.types import parse_fractions

__all__ = ["Registry", "component", "kinds", "load_plugins", "registry"]


class Registry:
    """Names to factories (dataclasses, module classes or functions) of one kind.

    Args:
        kind: singular noun used in messages and on the command line, such as "sparsifier".
        package: package whose modules are imported at the first look-up.
        context: parameters of the factory that the caller of `build` supplies, absent from specs.
    """

    def __init__(self, kind: str, package: str, *, context: tuple[str, ...] = ()) -> None:
        self.kind, self.package, self.context = kind, package, context
        self._factories: dict[str, Callable[..., Any]] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[Any], Any]:
        """Register the decorated class or function under `name`; a second use of a name raises."""

        def decorate(factory: Any) -> Any:
            known = self._factories.get(name)
            if known is not None and _location(known) != _location(factory):
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: {_location(known)} and "
                    f"{_location(factory)}. Rename one."
                )
            self._factories[name] = factory
            if dataclasses.is_dataclass(factory):
                factory.registered_name = name  # type: ignore[attr-defined] # a class attribute
            self.signature.cache_clear()
            return factory

        return decorate

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        self._scan()
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., Any]:
        """Return the factory called `name`.

        Raises:
            UserError: if there is none; the message has the closest name.
        """
        self._scan()
        if name not in self._factories:
            raise UserError(
                f"no {self.kind} {name!r}{closest(name, self._factories)}. See `wiry list`."
            )
        return self._factories[name]

    def summary(self, name: str) -> str:
        """Return the first line of the factory's docstring."""
        return (inspect.getdoc(self.get(name)) or "").split("\n")[0]

    @functools.cache  # noqa: B019 - registries live as long as the process
    def signature(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the factory's parameters without the context ones."""
        parameters = parameters_of(self.get(name))
        return {key: p for key, p in parameters.items() if key not in self.context}

    def normalize(self, spec: Any) -> dict[str, Any]:
        """Check a spec and return it as plain data without the fields that have their default.

        Args:
            spec: a name, a mapping with `name` and fields, or an instance of a registered
                dataclass.

        Raises:
            UserError: for an unknown name or field, or a value that the factory refuses.
        """
        name, fields = self._split(spec)
        fields = self._validate(name, fields)
        if dataclasses.is_dataclass(self.get(name)):
            self._call(name, fields)  # runs __post_init__
        kept = {
            key: value
            for key, value in fields.items()
            if self._as_data(name, key, self.signature(name)[key].default) != value
        }
        return {"name": name, **kept}

    def build(self, spec: Any, **context: Any) -> Any:
        """Make the object a spec describes.

        An instance of a registered dataclass is returned as it is.
        """
        if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
            return spec
        name, fields = self._split(spec)
        return self._call(name, self._validate(name, fields), **context)

    def defaults(self) -> list[Any]:
        """Build every component that needs no argument: what the generic tests run over."""
        return [
            self.build(name)
            for name in self.names()
            if all(p.default is not p.empty for p in self.signature(name).values())
        ]

    def field_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON schema of a component's fields, `name` included."""
        schema = self._model(name).model_json_schema()
        schema["properties"] = {"name": {"const": name}, **schema.get("properties", {})}
        schema["required"] = ["name", *schema.get("required", [])]
        return schema

    def _call(self, name: str, fields: dict[str, Any], **context: Any) -> Any:
        built = {}
        for key, value in fields.items():
            kind = nested_kind(self.signature(name)[key].annotation)
            # functions with a context (scores, allocations) stay specs until their context is there
            leaf = kind is None or value is None or bool(registry(kind).context)
            built[key] = value if leaf else registry(kind or "").build(value)
        try:
            return self.get(name)(**context, **built)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self.kind} {name!r}: {error}") from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate" not in str(error):
                raise
            raise UserError(f"{self.kind} {name!r} does not fit into memory: {error}") from error

    def _split(self, spec: Any) -> tuple[str, dict[str, Any]]:
        if isinstance(spec, str):
            return spec, {}
        if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
            name = getattr(spec, "registered_name", None)
            if name not in self._factories:
                raise UserError(f"{type(spec).__name__} is not a registered {self.kind}")
            return name, {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.init}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            raise UserError(f"a {self.kind} is a name or a mapping with 'name', got {spec!r}")
        return spec["name"], {key: value for key, value in spec.items() if key != "name"}

    def _validate(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        known = self.signature(name)
        for key in fields:
            if key not in known:
                raise UserError(f"{self.kind} {name!r} has no field {key!r}{closest(key, known)}")
        try:
            fields = {key: self._as_data(name, key, value) for key, value in fields.items()}
            checked = self._model(name).model_validate(parse_fractions(fields))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"{self.kind} {name!r}: {where}: {first['msg']}, got {first.get('input')!r}"
            ) from error
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self.kind} {name!r}: {error}") from error
        return {key: getattr(checked, key) for key in known if key in checked.model_fields_set}

    def _as_data(self, name: str, key: str, value: Any) -> Any:
        kind = nested_kind(self.signature(name)[key].annotation)
        if kind is not None and value is not None and value is not inspect.Parameter.empty:
            return registry(kind).normalize(value)
        return list(value) if isinstance(value, tuple) else value

    @functools.cache  # noqa: B019 - registries live as long as the process
    def _model(self, name: str) -> type[pydantic.BaseModel]:
        return fields_model(name, self.signature(name))

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")


def _location(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


_SELECTION = ("model", "scores", "alive", "num_keep", "allocate")
_REGISTRIES = {
    r.kind: r
    for r in (
        Registry("dataset", "wiry.data"),
        Registry("model", "wiry.models", context=("input_shape", "num_classes")),
        Registry("activation", "wiry.models"),
        Registry("attack", "wiry.attacks"),
        Registry("objective", "wiry.objectives"),
        Registry("sparsifier", "wiry.sparsify"),
        Registry("score", "wiry.sparsify", context=("model", "state")),
        Registry("allocation", "wiry.sparsify", context=("scores", "alive", "num_keep")),
        Registry("structure", "wiry.sparsify", context=_SELECTION),
        Registry("schedule", "wiry.sparsify", context=("progress",)),
        Registry("method", "wiry.sparsify", context=("path", "dense", "epochs")),
        Registry("optimizer", "wiry.train"),
        Registry("average", "wiry.train"),
        Registry("measure", "wiry.evaluation.measures"),
        Registry("check", "wiry.evaluation.checks", context=("subject",)),
        Registry("format", "wiry.export.formats"),
        Registry("engine", "wiry.bench.engines"),
    )
}


def registry(kind: str) -> Registry:
    """Return the registry of a kind, such as "sparsifier"; `UserError` if there is no such kind."""
    if kind not in _REGISTRIES:
        raise UserError(f"nothing is called {kind!r}{closest(kind, _REGISTRIES)}")
    return _REGISTRIES[kind]


def kinds() -> list[str]:
    """Return the kinds of component there are."""
    return list(_REGISTRIES)


def load_plugins(modules: list[str]) -> None:
    """Import outside modules so that their decorators run.

    Raises:
        UserError: if a module cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # "" and ".x" are no names
            text = (
                f"plugin {module!r} cannot be imported: {error}. Is it installed or on PYTHONPATH?"
            )
            raise UserError(text) from error
