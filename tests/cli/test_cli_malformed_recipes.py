"""Malformed recipes: exit code 2, one line on standard error, never a traceback.

Everything runs in this process. What would start work is replaced by `Started`, so a mutation that
happens to be valid costs nothing and is discarded. A traceback is an exception out of `run`.
"""

import copy

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.cli.malformed import (
    BASE,
    JUNK,
    PLACES,
    QUIET,
    call,
    check_refused,
    mutate,
    refused,
    show,
)

pytestmark = pytest.mark.usefixtures("no_work")
changes = st.tuples(
    st.sampled_from(PLACES),
    st.sampled_from(["replace", "replace", "delete", "misspell", "add", "cycle", "repeat"]),
    st.sampled_from(JUNK) | st.text(max_size=8) | st.floats() | st.integers(),
)


def test_the_recipe_that_is_mutated_is_valid(folder):
    code, out, err = call(show(folder, yaml.safe_dump(BASE)))
    assert (code, err) == (0, "") and out.startswith("tiny-")


@settings(QUIET, max_examples=300)
@given(st.lists(changes, min_size=1, max_size=3))
def test_a_mutated_recipe_is_refused_in_one_line(folder, chosen):
    data = copy.deepcopy(BASE)
    for path, how, junk in chosen:
        mutate(data, path, how, copy.deepcopy(junk))
    refused(show(folder, yaml.safe_dump(data, allow_unicode=True)))


@pytest.mark.parametrize("path", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_no_junk_at_any_place_of_a_recipe_escapes(path, folder):
    """Every place gets eight kinds of junk, every kind of junk comes to about ten places."""
    first = 8 * PLACES.index(path)
    chosen = [JUNK[(first + number) % len(JUNK)] for number in range(8)]
    num_refused = 0
    for junk in chosen:
        data = copy.deepcopy(BASE)
        mutate(data, path, "replace", copy.deepcopy(junk))
        code, *printed = call(show(folder, yaml.safe_dump(data, allow_unicode=True)))
        if code != 0:
            check_refused(code, *printed)
            num_refused += 1
    assert num_refused > 0


@settings(QUIET, max_examples=200)
@given(st.binary(max_size=60) | st.text(alphabet="{}[]&*!<>|:-?,#%@`'\" \n\tab1", max_size=40))
@example(b"")
@example(b"\xff\xfe\x00\x01")
def test_bytes_that_are_no_recipe_are_refused(folder, content):
    check_refused(*call(show(folder, content)))


def bomb(depth):
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


def plain(change):
    return yaml.safe_dump(BASE | change)


TEXT_CASES = {
    "cyclic": "&a {name: tiny, data: *a, model: mlp, stages: [*a]}",
    "cyclic list": "&a [*a]",
    "cyclic stages": "{name: t, data: digits, model: mlp, stages: &s [*s]}",
    "undefined alias": "{name: *nowhere}",
    "bomb": bomb(5),
    "big bomb": bomb(9),
    "bomb as a name": bomb(9) + "\nname: *l8\ndata: digits\nmodel: mlp\nstages: [{name: a}]",
    "python object": "!!python/object/apply:os.system ['exit 1']",
    "python name": "{name: !!python/name:os.system , data: digits, model: mlp}",
    "unknown tag": "{name: !nope x}",
    "set": "!!set {name, data}",
    "ordered map": "!!omap [name: tiny]",
    "bad date": "{name: 2024-13-45}",
    "date": "{name: 2024-12-24, data: digits, model: mlp, stages: [{name: a}]}",
    "two documents": "name: a\n---\nname: b\n",
    "duplicate anchor": "{a: &x 1, b: &x 2, name: *x}",
    "list key": "? [a, b]\n: 1\n",
    "mapping key": "? {a: b}\n: 1\n",
    "deep": "[" * 3000,
    "deep and closed": "[" * 90 + "]" * 90,
    **{f"deep {depth}": "[" * depth + "]" * depth for depth in (150, 200, 300, 900)},
    "deep mapping": "name: " + "{a: " * 90 + "1" + "}" * 90,
    "deep value": plain({}) + "\nextra: " + "[" * 95 + "]" * 95,
    "long number": "{name: t, seed: " + "9" * 5000 + "}",
    "sexagesimal": "{name: 190:20:30, data: digits, model: mlp, stages: [{name: a}]}",
    "tab": "name:\ttiny\n\tdata: digits",
    "utf-16": plain({}).encode("utf-16"),
    "nul": b"name: a\x00b",
    "only a number": "5",
    "only null": "~",
    "only comment": "# nothing",
    "merge of a scalar": "{<<: 3, name: t}",
    "plugin without a name": plain({"plugins": [""]}),
    "relative plugin": plain({"plugins": [".nope"]}),
    "dots as plugin": plain({"plugins": [".."]}),
    "plugin with nul": plain({"plugins": ["a\0b"]}),
    "plugin that is null": plain({"plugins": [None]}),
    "plugin below a module": plain({"plugins": ["math.nope"]}),
    "plugins are a mapping": plain({"plugins": {"a": 1}}),
    "many levels of one name": plain({"stages": [{"name": "a"}, {"name": "a", "levels": 1}]}),
    "level collides": plain({"stages": [{"name": "a-2"}, {"name": "a", "levels": 3}]}),
    "refers to itself": plain({"stages": [{"name": "a", "start": {"weights": "a"}}]}),
    "stage is called previous": plain(
        {"stages": [{"name": "previous"}, {"name": "b", "start": {"weights": "previous"}}]}
    )
    + "\nx: 1",
}


@pytest.mark.parametrize("case", TEXT_CASES)
def test_a_malformed_file_is_refused_in_one_line(case, folder):
    check_refused(*call(show(folder, TEXT_CASES[case])))
