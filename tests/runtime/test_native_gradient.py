"""The compiled input gradient against torch.autograd."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.runtime import native_networks as nets
from tests.runtime.test_native_kernels import SETS, TOLERANCE, convolutions, native, slowly

FIXED = {"tune": False}
ALL = {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]}


def gradients(ops, shape, images, *, num_threads=1, instruction_set=SETS[0], **options):
    """Return logits and input gradient from the plan, and both from torch."""
    plan = native.Plan(ops, shape, num_threads, instruction_set, FIXED | options)
    logits, tape = plan.forward(images.numpy())
    images = images.clone().requires_grad_()
    wanted = nets.by_torch(ops, images)
    start = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(wanted, images, start)
    return logits, plan.backward(tape, start.numpy()), wanted.detach(), slope


def agrees(ops, shape, images, **options) -> bool:
    """Return whether logits and gradient are those of torch."""
    logits, got, wanted, slope = gradients(ops, shape, images, **options)
    return (
        nets.relative_error(logits, wanted) < TOLERANCE
        and nets.relative_error(got, slope) < TOLERANCE
    )


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize(
    "forced", [{}, {"block": 4, "tile": [2, 2]}, {"channels_per_part": 2}], ids=str
)
@given(case=convolutions())
@settings(slowly, max_examples=30)
def test_the_gradient_of_a_convolution_is_that_of_torch(instruction_set, forced, case):
    ops, shape, images = case
    for op in ops:
        op["relu"] = False  # rounding decides on which side of a kink a sum is
    assert agrees(ops, shape, images, instruction_set=instruction_set, **forced)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("tune", [False, True])
@pytest.mark.parametrize("count", [1, 16, 39, 90])
def test_the_gradient_of_every_operation_is_that_of_torch(density, num_threads, tune, count):
    generator = np.random.default_rng(3)
    ops, shape = nets.residual_network(generator, density)
    images = torch.from_numpy(generator.random((count, *shape), dtype=np.float32))
    assert agrees(ops, shape, images, num_threads=num_threads, tune=tune)


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("counted", [True, False])
def test_the_gradient_of_overlapping_pools_is_that_of_torch(kind, counted):
    counts = {"count_include_pad": counted} if kind == "avg_pool2d" else {}
    ops = [nets.plain(kind, ["x"], "a", **ALL, **counts), nets.plain("flatten", ["a"], "o")]
    images = torch.randn(20, 2, 7, 6, generator=torch.Generator().manual_seed(1))
    assert agrees(ops, [2, 7, 6], images)


def test_of_equal_maxima_the_first_gets_the_gradient():
    ops = [
        nets.plain("max_pool2d", ["x"], "a", kernel=[2, 2], stride=[2, 2], padding=[0, 0]),
        nets.plain("flatten", ["a"], "o"),
    ]
    plan = native.Plan(ops, [1, 2, 2], 1, "", FIXED)
    _, tape = plan.forward(np.full((1, 1, 2, 2), 0.5, np.float32))
    got = plan.backward(tape, np.full((1, 1), 3, np.float32))
    assert got.tolist() == [[[[3, 0], [0, 0]]]]


def test_values_with_many_readers_and_values_that_nobody_reads():
    generator = np.random.default_rng(2)

    def weights() -> dict:
        weight = nets.sparse(generator, (4, 4, 3, 3), 0.5)
        return {"weight": weight, "bias": nets.numbers(generator, 4), "padding": [1, 1]}

    ops = [
        nets.conv(["x"], "a", **weights(), relu=True),
        nets.conv(["a"], "lost", **weights()),
        nets.conv(["a", "a"], "b", **weights(), relu=True),
        nets.plain("add", ["b", "b"], "c", relu=False),
        nets.plain("add", ["c", "a"], "d", relu=True),
        nets.plain("relu", ["a"], "e"),
        nets.conv(["d", "e"], "f", **weights()),
        nets.plain("add", ["f", "x"], "g", relu=False),
        nets.plain("avg_pool2d", ["g"], "h", count_include_pad=True, **ALL),
        nets.plain("max_pool2d", ["g"], "i", **ALL),
        nets.plain("add", ["h", "i"], "j", relu=False),
        nets.plain("flatten", ["j"], "o"),
    ]
    images = torch.from_numpy(generator.random((21, 4, 6, 7), dtype=np.float32))
    assert agrees(ops, [4, 6, 7], images)


def test_the_gradient_follows_new_weights_and_refuses_an_old_tape():
    generator = np.random.default_rng(4)
    ops, shape = nets.residual_network(generator, 0.4)
    images = torch.from_numpy(generator.random((20, *shape), dtype=np.float32))
    plan = native.Plan(ops, shape, 1, "", FIXED)
    _, old = plan.forward(images.numpy())
    changed = copy.deepcopy(ops)
    for number, op in enumerate(changed):
        if "weight" in op:
            op["weight"] *= np.float32(-1.25)
            plan.set_weights(number, op["weight"], op["bias"])
    start = np.ones((20, 7), np.float32)
    with pytest.raises(ValueError, match="weights have changed"):
        plan.backward(old, start)
    images.requires_grad_()
    (slope,) = torch.autograd.grad(nets.by_torch(changed, images).sum(), images)
    _, tape = plan.forward(images.detach().numpy())
    assert nets.relative_error(plan.backward(tape, start), slope) < TOLERANCE


def test_tapes_may_overlap_and_outlive_the_plan_and_misuse_is_refused():
    generator = np.random.default_rng(5)
    ops, shape = nets.residual_network(generator, 0.4)
    images = generator.random((2, 20, *shape), dtype=np.float32)
    plan = native.Plan(ops, shape, 1, "", FIXED)
    start = np.ones((20, 7), np.float32)
    one, two = (plan.forward(batch)[1] for batch in images)
    first = plan.backward(one, start)
    second = plan.backward(two, start)
    assert np.array_equal(plan.backward(one, start), first)
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="shape of the logits"):
        plan.backward(one, start[:3].copy())
    other = native.Plan(ops, shape, 1, "", FIXED)
    with pytest.raises(ValueError, match="another plan"):
        other.backward(one, start)
    del plan, one  # the tape that is left keeps the plan
    assert two is not None
