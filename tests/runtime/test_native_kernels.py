"""The compiled kernels against torch: every instruction set and layout, on random shapes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime import native_networks as nets

native = pytest.importorskip(
    "wiry.runtime._native", reason="the compiled runtime is not built (see CMakeLists.txt)"
)

SETS = native.instruction_sets()
TOLERANCE = 2e-6  # of the largest number: what rounding in another order costs
BLOCKED = [{"block": block, "tile": [1, 1]} for block in (1, 2, 4, 8)]
TILED = [
    {"block": 1, "tile": [1, 16]},
    {"block": 1, "tile": [4, 4]},
    {"block": 1, "tile": [2, 8]},
    {"block": 2, "tile": [2, 4]},
    {"block": 4, "tile": [4, 1]},
    {"block": 8, "tile": [1, 2]},
    {"block": 1, "tile": [1, 4], "channels_per_part": 2},
]
slowly = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def run(ops: list[nets.Op], shape: list[int], images: torch.Tensor, **options: Any) -> np.ndarray:
    """Return the logits from a plan whose kernels are forced, not measured."""
    kind = options.pop("instruction_set", SETS[0])
    plan = native.Plan(ops, shape, 1, kind, {"tune": False} | options)
    return plan.run(images.numpy())


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[list[nets.Op], list[int], torch.Tensor]:
    """Draw one convolution, perhaps with a residual and a ReLU, and images for it."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    num_in, num_out = (groups * draw(st.integers(1, 5)) for _ in range(2))
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    padding = [draw(st.integers(0, side - 1)) for side in kernel]
    stride = [draw(st.integers(1, 3)) for _ in range(2)]
    sides = [draw(st.integers(max(1, k - 2 * p), 18)) for k, p in zip(kernel, padding, strict=True)]
    weight = nets.sparse(
        generator, (num_out, num_in // groups, *kernel), draw(st.sampled_from([0, 0.05, 0.3, 1]))
    )
    shape = {"stride": stride, "padding": padding, "groups": groups}
    relu = draw(st.booleans())
    ops = [nets.conv(["x"], "a", weight, nets.numbers(generator, num_out), relu=relu, **shape)]
    if draw(st.booleans()):
        other = weight[::-1].copy()
        bias = nets.numbers(generator, num_out)
        ops.append(nets.conv(["x", "a"], "b", other, bias, relu=relu, **shape))
    ops.append(nets.plain("flatten", [ops[-1]["output"]], "o"))
    count = draw(st.integers(1, 40))
    return (
        ops,
        [num_in, *sides],
        torch.from_numpy(generator.random((count, num_in, *sides), dtype=np.float32)),
    )


@pytest.mark.parametrize("layout", ["places", "lines"])
@pytest.mark.parametrize("instruction_set", SETS)
@given(case=convolutions())
@slowly
def test_a_convolution_is_that_of_torch(instruction_set, layout, case):
    ops, shape, images = case
    got = run(ops, shape, images, layout=layout, instruction_set=instruction_set)
    assert nets.relative_error(got, nets.by_torch(ops, images)) < TOLERANCE


@pytest.mark.parametrize("layout", ["places", "lines"])
@pytest.mark.parametrize("forced", BLOCKED + TILED, ids=str)
@given(case=convolutions())
@settings(slowly, max_examples=25)
def test_every_block_and_tile_gives_the_same_convolution(layout, forced, case):
    ops, shape, images = case
    got = run(ops, shape, images, layout=layout, **forced)
    assert nets.relative_error(got, nets.by_torch(ops, images)) < TOLERANCE


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("count", [16, 37, 64])
def test_kernels_for_whole_small_images_are_that_of_torch(instruction_set, side, count):
    generator = np.random.default_rng(side)
    images = torch.from_numpy(generator.random((count, 20, side, side), dtype=np.float32))
    weight, bias = nets.sparse(generator, (9, 20, 3, 3), 0.3), nets.numbers(generator, 9)
    ops = [nets.conv(["x"], "a", weight, bias, padding=[1, 1], relu=True)]
    again = nets.sparse(generator, (9, 9, 3, 3), 0.3)
    ops.append(nets.conv(["a", "a"], "b", again, bias, padding=[1, 1], relu=True))
    ops.append(nets.plain("flatten", ["b"], "o"))
    options = {"layout": "lines", "small": 1, "instruction_set": instruction_set}
    got = run(ops, [20, side, side], images, **options)
    assert nets.relative_error(got, nets.by_torch(ops, images)) < TOLERANCE


@pytest.mark.parametrize("instruction_set", SETS)
@given(
    num_in=st.integers(1, 70),
    num_out=st.integers(1, 40),
    density=st.sampled_from([0, 0.1, 0.5, 1]),
    count=st.integers(1, 40),
    options=st.sampled_from([{"matrix": "rows"}, {"matrix": "dense"}, {"layout": "lines"}]),
)
@slowly
def test_a_linear_layer_is_that_of_torch(instruction_set, num_in, num_out, density, count, options):
    generator = np.random.default_rng(num_in)
    ops = [
        nets.linear(["x"], "a", nets.sparse(generator, (num_out, num_in), density),
                    nets.numbers(generator, num_out), True),
        nets.linear(["a", "a"], "o", nets.sparse(generator, (num_out, num_out), density),
                    nets.numbers(generator, num_out)),
    ]  # fmt: skip
    images = torch.from_numpy(generator.random((count, num_in), dtype=np.float32))
    layout = {"layout": "places"} | options
    got = run(ops, [num_in], images, instruction_set=instruction_set, **layout)
    assert nets.relative_error(got, nets.by_torch(ops, images)) < TOLERANCE


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("layout", ["places", "lines"])
@given(
    kernel=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    stride=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    sides=st.lists(st.integers(4, 11), min_size=2, max_size=2),
    padded=st.booleans(),
    counted=st.booleans(),
)
@settings(slowly, max_examples=30)
def test_pooling_is_that_of_torch(kind, layout, kernel, stride, sides, padded, counted):
    generator = np.random.default_rng(5)
    padding = [side // 2 if padded else 0 for side in kernel]
    shape = {"kernel": kernel, "stride": stride, "padding": padding}
    counts = {"count_include_pad": counted} if kind == "avg_pool2d" else {}
    ops = [nets.plain(kind, ["x"], "a", **shape, **counts), nets.plain("flatten", ["a"], "o")]
    images = torch.from_numpy(generator.standard_normal((19, 2, *sides)).astype(np.float32))
    got = run(ops, [2, *sides], images, layout=layout)
    assert nets.relative_error(got, nets.by_torch(ops, images)) < TOLERANCE


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("tune", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5, 16, 33, 90])
def test_a_network_with_every_operation_is_that_of_torch(density, num_threads, tune, count):
    generator = np.random.default_rng(3)
    ops, shape = nets.residual_network(generator, density)
    images = torch.from_numpy(generator.random((count, *shape), dtype=np.float32))
    plan = native.Plan(ops, shape, num_threads, SETS[0], {"tune": tune})
    got, wanted = plan.run(images.numpy()), nets.by_torch(ops, images)
    assert got.shape == wanted.shape
    assert count == 0 or nets.relative_error(got, wanted) < TOLERANCE


def test_a_lone_weight_moves_one_pixel_and_bias_and_relu_apply():
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 0, 1] = 2.0  # reads the pixel above
    image = np.array([[[[1, 2], [3, 4]]]], np.float32)
    bias = np.array([-3], np.float32)
    ops = [nets.conv(["x"], "a", weight, bias, padding=[1, 1], relu=True)]
    ops.append(nets.plain("flatten", ["a"], "o"))
    for layout in ("places", "lines"):
        got = run(ops, [1, 2, 2], torch.from_numpy(image), layout=layout)
        assert got.tolist() == [[0, 0, 0, 1]]
