"""What a component's constructor says of its fields: names, types, defaults, nested components."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import pydantic


@dataclasses.dataclass(frozen=True)
class _Nested:
    kind: str


def component(kind: str) -> Any:
    """Annotate a field that holds another component: `attack: component("attack")`."""
    return Annotated[Any, _Nested(kind), pydantic.Field(json_schema_extra={"component": kind})]


def nested_kind(annotation: Any) -> str | None:
    """Return the kind of component an annotation made by `component` stands for, else None."""
    if get_origin(annotation) is Annotated:
        return next((m.kind for m in get_args(annotation)[1:] if isinstance(m, _Nested)), None)
    return None


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return a factory's parameters with evaluated annotations and real defaults."""
    parameters = dict(inspect.signature(factory, eval_str=True).parameters)
    if dataclasses.is_dataclass(factory):
        for field in dataclasses.fields(factory):
            if field.init and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
                parameters[field.name] = parameters[field.name].replace(default=default)
    return parameters


def fields_model(
    name: str, parameters: Mapping[str, inspect.Parameter]
) -> type[pydantic.BaseModel]:
    """Return the pydantic model that checks a component's fields."""
    config = pydantic.ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    fields: dict[str, Any] = {}
    for key, parameter in parameters.items():
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[key] = (annotation, default)
    return pydantic.create_model(name, __config__=config, **fields)
