"""Registries and component specs."""

import dataclasses

import pytest

from wiry.core.errors import UserError
from wiry.core.registry import Registry, registry


def test_normalize_drops_defaults_and_reads_fractions():
    spec = {"name": "gradual", "sparsity": "9/10", "num_updates": 7, "begin": 0.0}
    assert registry("sparsifier").normalize(spec) == {"name": "gradual", "num_updates": 7}


def test_a_nested_component_is_normalized_with_it():
    spec = {"name": "magnitude", "allocation": {"name": "global"}, "score": {"name": "random"}}
    assert registry("sparsifier").normalize(spec) == {
        "name": "magnitude",
        "score": {"name": "random"},
    }


def test_an_instance_and_its_spec_are_the_same_component():
    built = registry("sparsifier").build({"name": "magnitude", "sparsity": 0.5})
    assert registry("sparsifier").normalize(built) == {"name": "magnitude", "sparsity": 0.5}


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("sparsifier", "magnitud", "closest: 'magnitude'"),
        ("sparsifier", {"name": "magnitude", "sparsty": 0.5}, "closest: 'sparsity'"),
        ("sparsifier", {"name": "magnitude", "sparsity": 95}, "Did you mean 0.95?"),
        ("sparsifier", {"name": "magnitude", "sparsity": "much"}, "sparsity"),
        ("sparsifier", {"name": "magnitude", "sparsity": float("nan")}, "sparsity"),
        (
            "sparsifier",
            {"name": "magnitude", "score": {"name": "magnitudes"}},
            "closest: 'magnitude'",
        ),
        ("sparsifier", {"sparsity": 0.5}, "mapping with 'name'"),
        ("sparsifier", None, "mapping with 'name'"),
        ("optimizer", {"name": "sgd", "lr": "1/0"}, "divides by zero"),
        ("optimizer", {"name": "sgd", "lr": -1}, "lr must be above 0"),
    ],
)
def test_a_bad_spec_is_refused_with_what_to_do(kind, spec, expected):
    with pytest.raises(UserError, match=None) as error:
        registry(kind).normalize(spec)
    assert expected in str(error.value)


def test_a_name_used_twice_raises_with_both_places():
    own = Registry("thing", "wiry.core")

    @own.register("x")
    @dataclasses.dataclass(frozen=True)
    class First:
        pass

    with pytest.raises(ValueError, match="registered twice"):

        @own.register("x")
        @dataclasses.dataclass(frozen=True)
        class Second:
            pass


def test_every_registered_component_has_a_summary_and_a_schema():
    for kind in ("sparsifier", "objective", "attack", "model", "dataset", "optimizer"):
        for name in registry(kind).names():
            assert len(registry(kind).summary(name)) > 10, (kind, name)
            assert registry(kind).field_schema(name)["properties"]["name"] == {"const": name}
