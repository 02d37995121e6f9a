"""The compiled plan around the kernels: refusals, new weights, threads, and what it tells."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.runtime import native_networks as nets

native = pytest.importorskip(
    "wiry.runtime._native", reason="the compiled runtime is not built (see CMakeLists.txt)"
)
FIXED = {"tune": False}


@pytest.fixture
def network():
    """A network with every operation, its input shape, and 40 images."""
    generator = np.random.default_rng(1)
    ops, shape = nets.residual_network(generator, 0.3)
    return ops, shape, generator.random((40, *shape), dtype=np.float32)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_several_python_threads_may_run_one_plan_at_once(network, num_threads):
    ops, shape, images = network
    plan = native.Plan(ops, shape, num_threads, "", FIXED)
    wanted = [plan.run(images[:count]) for count in range(1, 41)]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            got = list(pool.map(lambda count: plan.run(images[:count]), range(1, 41)))
            assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_two_runs_are_bitwise_equal_and_independent_of_what_ran_before(network):
    ops, shape, images = network
    plan = native.Plan(ops, shape, 1, "", FIXED)
    first = plan.run(images)
    plan.run(np.full_like(images, 1e30))
    assert np.array_equal(plan.run(images), first)


def test_the_split_into_batches_changes_rounding_only(network):
    ops, shape, images = network
    plan = native.Plan(ops, shape, 1, "", FIXED)
    alone = np.concatenate([plan.run(images[i : i + 1]) for i in range(len(images))])
    assert nets.relative_error(plan.run(images), torch.from_numpy(alone)) < 2e-6


def test_new_weights_keep_the_pattern(network):
    ops, shape, images = network
    plan = native.Plan(ops, shape, 1, "", FIXED)
    changed = copy.deepcopy(ops)
    for number, op in enumerate(changed):
        if "weight" in op:
            op["weight"] *= np.float32(1.5)
            op["weight"].reshape(-1)[np.flatnonzero(op["weight"])[0]] = 0.0  # stays in the pattern
            op["bias"] += np.float32(0.25)
            plan.set_weights(number, op["weight"], op["bias"])
    wanted = nets.by_torch(changed, torch.from_numpy(images))
    assert nets.relative_error(plan.run(images), wanted) < 2e-6
    assert nets.relative_error(plan.run(images[:1]), wanted[:1]) < 2e-6
    for number, op in enumerate(ops):
        if "weight" in op:
            plan.set_weights(number, op["weight"], op["bias"])
    assert np.array_equal(plan.run(images), native.Plan(ops, shape, 1, "", FIXED).run(images))


def test_weights_of_another_shape_or_operation_are_refused(network):
    ops, shape, _ = network
    plan = native.Plan(ops, shape, 1, "", FIXED)
    with pytest.raises(ValueError, match="another shape"):
        plan.set_weights(1, ops[1]["weight"][:4].copy(), ops[1]["bias"])
    for number in (0, 99):
        with pytest.raises(ValueError, match="has no weights"):
            plan.set_weights(number, ops[1]["weight"], ops[1]["bias"])


def test_images_of_another_shape_or_type_are_refused(network):
    ops, shape, images = network
    plan = native.Plan(ops, shape, 1, "", FIXED)
    with pytest.raises(ValueError, match="input shape"):
        plan.run(images[:, :, :5].copy())
    with pytest.raises(TypeError):
        plan.run(images.astype(np.complex64))


def test_a_plan_tells_what_it_chose(network):
    ops, shape, _ = network
    rows = native.Plan(ops, shape, 1, "", {}).describe()
    assert [row["kind"] for row in rows] == [op["kind"] for op in ops]
    first = rows[1]
    assert first["density"] == pytest.approx(
        np.count_nonzero(ops[1]["weight"]) / ops[1]["weight"].size
    )
    assert first["microseconds_one"] > 0 and first["kernel_sixteen"].startswith("lines R")


def change(op: nets.Op, **entries):
    return op | entries


CONV = nets.conv(["x"], "a", np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32))
END = [nets.plain("global_avg_pool", ["a"], "o")]
BAD = {
    "nothing before it makes": [change(CONV, inputs=["y"])],
    "unknown kind": [change(CONV, kind="softmax")],
    "does not fit the channels": [change(CONV, weight=np.ones((4, 2, 3, 3), np.float32))],
    "groups do not divide": [change(CONV, groups=2)],
    "groups do not divide its": [change(CONV, groups=0)],
    "stride is out of range": [change(CONV, stride=[0, 1])],
    "stride is out of": [change(CONV, stride=[1, 2**30])],
    "between zero and the kernel": [change(CONV, padding=[3, 0])],
    "between zero and the": [change(CONV, padding=[-1, 0])],
    "not two numbers": [change(CONV, stride=[1])],
    "'stride' has the wrong type": [change(CONV, stride=["a", 1])],
    "'padding' has the wrong type": [change(CONV, padding=[2**70, 1])],
    "bias has not one number": [change(CONV, bias=np.ones(3, np.float32))],
    "weight is not": [change(CONV, weight=np.ones((4, 3), np.float32))],
    "'weight' has the wrong type": [change(CONV, weight=None)],
    "kernel is larger": [change(CONV, weight=np.ones((4, 3, 9, 3), np.float32))],
    "wrong number of inputs": [change(CONV, inputs=[])],
    "has another shape": [change(CONV, inputs=["x", "x"])],
    "is there already": [CONV, CONV],
    "not a list of features": [CONV, nets.plain("global_avg_pool", ["a"], "o"),
                               nets.plain("global_avg_pool", ["o"], "p")],
    "has no entry 'groups'": [{key: value for key, value in CONV.items() if key != "groups"}],
    "empty side": [change(CONV, weight=np.ones((4, 3, 0, 3), np.float32))],
    "above half the kernel": [nets.plain("max_pool2d", ["x"], "a", kernel=[2, 2], stride=[1, 1],
                                         padding=[2, 0])],
    "one number for each channel": [nets.plain("affine", ["x"], "a", scale=np.ones(2, np.float32),
                                               shift=np.ones(2, np.float32))],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_malformed_network_is_refused_with_a_reason(message):
    with pytest.raises(ValueError, match=message):
        native.Plan([*BAD[message], *END], [3, 6, 6], 1, "", FIXED)


@pytest.mark.parametrize("shape", [[], [3, 6], [3, 0, 6], [3, -1, 6], [3, 2**40, 2**40], [2**62]])
def test_a_malformed_input_shape_is_refused(shape):
    with pytest.raises(ValueError, match="input_shape"):
        native.Plan([CONV, *END], shape, 1, "", FIXED)


def test_a_plan_refuses_what_this_processor_lacks_and_silly_thread_counts():
    with pytest.raises(ValueError, match="no instruction set 'sse9'"):
        native.Plan([CONV, *END], [3, 6, 6], 1, "sse9", FIXED)
    for count in (0, -1, 100_000):
        with pytest.raises(ValueError, match="num_threads"):
            native.Plan([CONV, *END], [3, 6, 6], count, "", FIXED)
    for options in ({"block": 3}, {"tile": [1, 3], "block": 1}, {"tile": [4, 16], "block": 1}):
        with pytest.raises(ValueError, match="options"):
            native.Plan([CONV, *END], [3, 6, 6], 1, "", options)
