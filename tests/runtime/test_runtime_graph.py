"""A graph from a file is believed in nothing: it is sound, or refused in one clear line."""

import contextlib
import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.interpreter import interpret

from wiry.core.errors import UserError
from wiry.runtime.graph import MAX_ENTRIES, parse_graph
from wiry.runtime.kinds import KINDS
from wiry.runtime.simplify import simplify

RNG = np.random.default_rng(0)
ARRAYS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {
        "conv": (4, 1, 3, 3),
        "same": (4, 1, 3, 3),
        "four": (4,),
        "positive": (4,),
        "out": (2, 4),
        "two": (2,),
        "image": (2, 64),
    }.items()
}
ARRAYS["positive"] = np.abs(ARRAYS["positive"])
SHAPES = {name: array.shape for name, array in ARRAYS.items()}
POOL = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]}


def op(kind, inputs, output, **attributes):
    return {"kind": kind, "name": "a", "inputs": inputs, "output": output, **attributes}


def conv(**changes):
    own = {"weight": "conv", "bias": "four", "stride": [2, 2], "padding": [1, 1], "groups": 2}
    return op("conv2d", ["v0"], "v1", **(own | changes))


SOUND = {
    "version": 1,
    "input": "x",
    "input_shape": [2, 8, 8],
    "output": "v9",
    "ops": [
        op("affine", ["x"], "v0", scale=[1, 2.5], shift=[0.0, -1]),
        conv(weight={"product": ["conv", "same"]}),
        op(
            "batch_norm",
            ["v1"],
            "v2",
            weight="four",
            bias=None,
            mean="four",
            variance="positive",
            epsilon=1e-5,
        ),
        op("relu", ["v2"], "v3"),
        op("add", ["v3", "v1"], "v4"),
        op("max_pool2d", ["v4"], "v5", **POOL),
        op("avg_pool2d", ["v5"], "v6", **POOL, count_include_pad=False),
        op("flatten", ["v6"], "v7"),
        op("global_avg_pool", ["v5"], "v8"),
        op("linear", ["v8"], "v9", weight="out", bias="two"),
    ],
}


def changed(path, value):
    """Return the sound graph with one entry changed, or taken out with `...`."""
    graph = copy.deepcopy(SOUND)
    place = graph
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return graph


def test_a_sound_graph_is_read_with_its_shapes_and_comes_back():
    graph = parse_graph(SOUND, SHAPES)
    assert graph.to_data() == SOUND
    shapes = [op.shape for op in graph.ops]
    image, quarter = (4, 4, 4), (4, 2, 2)
    assert shapes[:5] == [(2, 8, 8), image, image, image, image]
    assert shapes[5:] == [quarter, (4, 1, 1), (4,), (4,), (2,)]
    assert {op.kind for op in graph.ops} == set(KINDS)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["version"], 2, "version 2, this wiry reads 1"),
        (["version"], True, "version True"),
        (["ops"], [], "1 to 10,000 operations"),
        (["ops"], {}, "1 to 10,000 operations"),
        (["more"], 1, "no others"),
        (["output"], ..., "no others"),
        (["output"], "v8", "does not make the logits"),
        (["input"], "y", "is called 'y'"),
        (["input_shape"], [2, 8], "channels, height and width"),
        (["input_shape"], [2, 8, 2**40], "whole numbers"),
        (["input_shape"], [2, 2**13, 2**13], f"more than {MAX_ENTRIES:,}"),
        (["input_shape"], [2, 8, 0], "at least 1"),
        (["input_shape"], [2, 8, True], "whole numbers"),
        (["input_shape"], [3, 8, 8], "scale and shift must have 3 entries"),
        (["ops", 1], 7, "operation 1 is not an object"),
        (["ops", 3, "kind"], "gelu", "operation 3 has the kind 'gelu'; known: conv2d"),
        (["ops", 3, "kind"], [], "the kind list"),
        (["ops", 3, "name"], None, "texts"),
        (["ops", 3, "extra"], 1, "entries of every kind only"),
        (["ops", 3, "inputs"], ["v3"], r"operation 3 \(relu, layer 'a'\): it reads 'v3', which"),
        (["ops", 3, "inputs"], ["v1", "v1"], "a list of 1 value$"),
        (["ops", 4, "inputs"], ["v1"], "a list of 2 values"),
        (["ops", 4, "inputs"], ["v3", "x"], r"adds values of shapes \(4, 4, 4\) and \(2, 8, 8\)"),
        (["ops", 3, "output"], "x", "is there already"),
        (["ops", 0, "scale"], [1, float("inf")], "finite"),
        (["ops", 0, "scale"], [1, 10**400], "finite"),
        (["ops", 0, "shift"], [True, 1], "finite"),
        (["ops", 1, "weight"], "gone", "'gone' is no float32 tensor"),
        (["ops", 1, "weight"], None, "a tensor's name or a product"),
        (["ops", 1, "weight"], {"product": ["conv"]}, "a tensor's name or a product"),
        (["ops", 1, "weight"], {"product": ["conv", "four"]}, "multiplies tensors of shapes"),
        (["ops", 1, "weight"], "out", "not .out, in"),
        (["ops", 1, "bias"], "two", "bias must have 4 entries"),
        (["ops", 1, "groups"], 0, "groups must be whole numbers of at least 1"),
        (["ops", 1, "groups"], 1, "in 1 groups does not fit 2 channels"),
        (["ops", 1, "stride"], [0, 1], "stride must be whole numbers of at least 1"),
        (["ops", 1, "stride"], [1], "stride must be a list of two"),
        (["ops", 1, "padding"], [3, 1], "smaller than the kernel"),
        (["ops", 2, "epsilon"], -1, "must not be negative"),
        (["ops", 2, "mean"], "two", "mean must have 4 entries"),
        (["ops", 5, "kernel"], [2**30, 3], r"output would have the shape \(4, -"),
        (["ops", 5, "padding"], [2, 1], "half the kernel"),
        (["ops", 6, "count_include_pad"], 1, "true or false"),
        (["ops", 8, "inputs"], ["v7"], "needs channels, height and width"),
        (["ops", 9, "inputs"], ["v6"], "does not fit a value of shape"),
        (["ops", 9, "weight"], "four", "does not fit"),
    ],
)
def test_a_malformed_graph_is_refused_with_its_fault(path, value, text):
    with pytest.raises(UserError, match=text):
        parse_graph(changed(path, value), SHAPES)


def test_pooling_that_pads_far_more_than_the_image_is_refused():
    pool = {"kernel": [2**30, 2**30], "stride": [1, 1], "padding": [2**29, 2**29]}
    ops = [op("max_pool2d", ["x"], "v0", **pool), op("global_avg_pool", ["v0"], "v1")]
    with pytest.raises(UserError, match="not above the image"):
        parse_graph({**SOUND, "ops": ops, "output": "v1"}, SHAPES)


COUNTS = st.one_of(st.integers(-1, 5), st.sampled_from([2**24, 2**31 - 1, 2**31, 10**30]))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    COUNTS,
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([*ARRAYS, *KINDS, *(f"v{i}" for i in range(10)), "x"]),
    st.lists(COUNTS, min_size=2, max_size=2),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ATTRIBUTES = sorted({key for kind in KINDS.values() for key in kind.attributes})
PLACES = st.one_of(
    st.tuples(st.sampled_from(list(SOUND))),
    st.tuples(
        st.just("ops"),
        st.integers(0, 9),
        st.sampled_from([*ATTRIBUTES, "kind", "name", "inputs", "output"]),
    ),
    st.tuples(st.just("ops"), st.integers(0, 9), st.just("inputs"), st.just(0)),
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(PLACES, JSON), min_size=1, max_size=3))
def test_a_sound_graph_with_changes_is_refused_or_runs(changes):
    graph = copy.deepcopy(SOUND)
    for path, value in changes:
        place = graph
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took it out
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
    run_or_refuse(graph)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_data_is_refused(data):
    assert run_or_refuse(data) is None


def run_or_refuse(data):
    try:
        graph = parse_graph(data, SHAPES)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        str(error).encode()
        return None
    images = np.zeros((2, *graph.input_shape), np.float32)
    if images.nbytes < 10**6:
        with np.errstate(all="ignore"):
            logits = interpret(simplify(graph, ARRAYS), images)
        assert logits.shape == (2, graph.num_classes)
    return graph
