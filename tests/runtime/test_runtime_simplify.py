"""Simplifying merges what it may, and nothing that would change an answer."""

import numpy as np
import pytest
from tests.runtime.interpreter import interpret

from wiry.runtime.graph import parse_graph
from wiry.runtime.simplify import simplify

RNG = np.random.default_rng(0)


def graph_of(ops, arrays, input_shape):
    """Return a graph whose operations are called v0, v1, ...; an input None is the one before."""
    rows, before = [], "x"
    for i, (kind, inputs, attributes) in enumerate(ops):
        names = [before if name is None else name for name in inputs or [None]]
        before = f"v{i}"
        rows.append({"kind": kind, "name": kind, "inputs": names, "output": before} | attributes)
    data = {"version": 1, "input": "x", "input_shape": input_shape, "output": before, "ops": rows}
    return parse_graph(data, {name: array.shape for name, array in arrays.items()})


def conv(weight="w", padding=0, groups=1):
    own = {"weight": weight, "bias": None, "stride": [1, 1], "padding": [padding] * 2}
    return ("conv2d", None, own | {"groups": groups})


def affine(scale, shift):
    return ("affine", None, {"scale": scale, "shift": shift})


RELU, POOL, FLATTEN = ("relu", None, {}), ("global_avg_pool", None, {}), ("flatten", None, {})
NORM = {"weight": "g", "bias": "b", "mean": "m", "variance": "v", "epsilon": 0.0}
ONES = {"w": np.ones((1, 1, 1, 1), np.float32)}


def kinds(operations):
    return [op["kind"] for op in operations]


def test_a_batch_norm_goes_into_the_weights_before_it():
    # norm: (y - 1) / 2 * 4 + 3 = 2 y + 1
    numbers = {"g": 4, "b": 3, "m": 1, "v": 4}
    arrays = ONES | {name: np.array([value], np.float32) for name, value in numbers.items()}
    graph = graph_of([conv(), ("batch_norm", None, NORM), RELU, POOL], arrays, [1, 2, 2])
    operations = simplify(graph, arrays)
    assert kinds(operations) == ["conv2d", "global_avg_pool"]
    assert operations[0]["weight"].item() == 2 and operations[0]["bias"].tolist() == [1]
    assert operations[0]["relu"] is True and operations[0]["weight"].dtype == np.float32


def test_normalisation_goes_into_a_linear_layer_but_not_through_padding():
    arrays = {"w": np.array([[1, 2, 0, 4]], np.float32)}
    linear = ("linear", None, {"weight": "w", "bias": None})
    graph = graph_of([affine([2, 3], [1, -1]), FLATTEN, linear], arrays, [2, 1, 2])
    operations = simplify(graph, arrays)
    assert kinds(operations) == ["flatten", "linear"]
    assert operations[1]["weight"].tolist() == [[2, 4, 0, 12]]
    assert operations[1]["bias"].tolist() == [1 * (1 + 2) - 1 * (0 + 4)]
    arrays = {"w": np.ones((1, 1, 3, 3), np.float32)}
    for shift, padding, expected in ((1, 1, 2), (0, 1, 1), (1, 0, 1)):
        graph = graph_of([affine([2], [shift]), conv(padding=padding), POOL], arrays, [1, 4, 4])
        assert len(simplify(graph, arrays)) == expected + 1, (shift, padding)


def test_a_sum_goes_into_the_later_convolution_unless_a_rectifier_is_between():
    arrays = {"w": np.ones((1, 1, 1, 1), np.float32)}
    plain = [conv(), ("add", [None, "x"], {}), RELU, POOL]
    operations = simplify(graph_of(plain, arrays, [1, 2, 2]), arrays)
    assert kinds(operations) == ["conv2d", "global_avg_pool"]
    assert operations[0]["inputs"] == ["x", "x"] and operations[0]["relu"]
    between = [conv(), RELU, ("add", [None, "x"], {}), POOL]
    operations = simplify(graph_of(between, arrays, [1, 2, 2]), arrays)
    assert kinds(operations) == ["conv2d", "add", "global_avg_pool"]
    assert operations[0]["relu"] and not operations[1]["relu"]


def test_what_is_read_twice_is_left_alone():
    arrays = {"w": np.ones((1, 1, 1, 1), np.float32)}
    graph = graph_of(
        [conv(), RELU, ("add", ["v0", "v1"], {}), ("add", [None, None], {}), POOL],
        arrays,
        [1, 2, 2],
    )
    operations = simplify(graph, arrays)
    assert kinds(operations) == ["conv2d", "relu", "add", "add", "global_avg_pool"]
    image = np.array([[[[1, -2], [3, -4]]]], np.float32)
    assert interpret(operations, image).tolist() == [[2 * (2 * 1 - 2 + 2 * 3 - 4) / 4]]


def test_an_affine_operation_that_does_nothing_goes_unless_it_is_all():
    operations = simplify(graph_of([affine([1], [0]), POOL], {}, [1, 2, 2]), {})
    assert kinds(operations) == ["global_avg_pool"] and operations[0]["inputs"] == ["x"]
    operations = simplify(graph_of([POOL, affine([1], [0])], {}, [1, 2, 2]), {})
    assert kinds(operations) == ["global_avg_pool", "affine"]


def arrays_for(channels, groups):
    return {
        "w": RNG.normal(size=(channels, channels // groups, 3, 3)).astype(np.float32),
        **{name: RNG.uniform(0.5, 2, channels).astype(np.float32) for name in "gbmv"},
    }


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolutions_take_norms_from_both_sides(groups):
    arrays = arrays_for(4, groups)
    norm = ("batch_norm", None, NORM)
    graph = graph_of([norm, conv(groups=groups), norm, RELU, POOL], arrays, [4, 5, 5])
    operations = simplify(graph, arrays)
    assert kinds(operations) == ["conv2d", "global_avg_pool"]
    images = RNG.normal(size=(2, 4, 5, 5)).astype(np.float32)
    scale = arrays["g"] / np.sqrt(arrays["v"])
    shift = arrays["b"] - arrays["m"] * scale
    norm_op = {"kind": "affine", "inputs": ["x"], "output": "a", "scale": scale, "shift": shift}
    apart = [
        norm_op,
        operations[0] | {"inputs": ["a"], "relu": False, "bias": np.zeros(4)},
        norm_op | {"inputs": ["c"], "output": "d"},
        {"kind": "relu", "inputs": ["d"], "output": "e"},
        operations[1] | {"inputs": ["e"]},
    ]
    apart[1] |= {"weight": arrays["w"], "output": "c"}
    assert np.allclose(interpret(operations, images), interpret(apart, images), rtol=1e-5)


def test_zeros_of_a_weight_stay_zeros():
    arrays = arrays_for(4, 1)
    arrays["w"] *= RNG.random(arrays["w"].shape) < 0.2
    norm = ("batch_norm", None, NORM)
    operations = simplify(graph_of([norm, conv(), norm, POOL], arrays, [4, 5, 5]), arrays)
    assert np.array_equal(operations[0]["weight"] != 0, arrays["w"] != 0)
