"""The compiled core answers like the network, for every model, mask and way to run it."""

import concurrent.futures

import numpy as np
import pytest
import torch
from tests.engine.networks import NETWORKS, SHAPE, images, made
from tests.runtime.interpreter import difference

from wiry.core.mask import Mask, prunable
from wiry.core.registry import registry
from wiry.engine.lower import lower
from wiry.export.shrink import shrink
from wiry.models.base import build_model
from wiry.runtime.runtime import instruction_sets, make_plan
from wiry.runtime.simplify import simplify
from wiry.sparsify.allocate import layerwise
from wiry.sparsify.structure import block, n_m, unstructured

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")

TOLERANCE = 2e-6  # of the largest logit
STATISTICS = (torch.tensor([0.4, 0.5, 0.3]), torch.tensor([0.2, 0.3, 0.25]))
SMALL = {"resnet18": {"width": 16}, "vgg16": {"width": 0.25}}


def plan_of(model, shape, *, num_threads=1, instruction_set=None, tune=False):
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return make_plan(
        simplify(lower(model, shape).graph, arrays),
        shape,
        num_threads=num_threads,
        instruction_set=instruction_set,
        options={"tune": tune},
    )


def build(name):
    spec = {"name": name, **SMALL.get(name, {})}
    model = build_model(
        spec, input_shape=(3, 32, 32), num_classes=10, seed=0, statistics=STATISTICS
    )
    model.head.bias.data.copy_(torch.linspace(-0.1, 0.2, 10))
    return model.eval()


def masked(model, structure, density):
    """Mask a model's weights in place and return the mask."""
    generator = torch.Generator().manual_seed(0)
    weights = prunable(model)
    scores = {n: torch.rand(w.shape, generator=generator) for n, w in weights.items()}
    num_keep = round(density * sum(w.numel() for w in weights.values()))
    alive = Mask({n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()})
    choose = {"unstructured": unstructured, "n-m": n_m, "block": block}[structure]
    mask = choose(model, scores, alive, num_keep, layerwise)
    mask.apply_(model)
    return mask


def expected(model, x):
    """Return the network's answers in double precision."""
    with torch.no_grad():
        return model.eval().double()(x.double()).numpy()


@pytest.mark.parametrize("name", registry("model").names())
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_every_model_answers_at_every_density(name, density):
    model, x = build(name), images(17, (3, 32, 32))
    masked(model, "unstructured", density)
    plan = plan_of(model, (3, 32, 32))
    wanted = expected(model, x)
    assert difference(plan.run(x.numpy()), wanted) < TOLERANCE  # 16 images together and one
    assert difference(plan.run(x[:1].numpy()), wanted[:1]) < TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("tune", [False, True])
def test_a_users_own_network_answers(name, tune):
    model, x = made(NETWORKS[name], density=0.3).eval(), images(17)
    plan = plan_of(model, SHAPE, tune=tune)
    with torch.no_grad():
        wanted = model(x).numpy()
    assert difference(plan.run(x.numpy()), wanted) < TOLERANCE
    assert difference(plan.run(x[:2].numpy()), wanted[:2]) < TOLERANCE


@pytest.mark.parametrize("structure", ["n-m", "block"])
def test_structured_masks_answer(structure):
    model, x = build("resnet18"), images(17, (3, 32, 32))
    masked(model, structure, 0.3)
    plan = plan_of(model, (3, 32, 32), tune=True)
    assert difference(plan.run(x.numpy()), expected(model, x)) < TOLERANCE


def test_a_network_made_smaller_answers():
    model, x = build("vgg16"), images(5, (3, 32, 32))
    mask = masked(model, "unstructured", 0.5)
    for name in mask.keys() - {"head.weight"}:
        mask[name][::3] = False
    model.apply(lambda m: m.bias.data[::3].zero_() if isinstance(m, torch.nn.BatchNorm2d) else None)
    small = shrink(model, mask, (3, 32, 32)).eval()
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert sizes[1] < 0.6 * sizes[0]
    plan = plan_of(small, (3, 32, 32))
    assert difference(plan.run(x.numpy()), expected(small, x)) < TOLERANCE


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_every_instruction_set_answers(instruction_set):
    model, x = made(NETWORKS["OwnResNet"], density=0.3).eval(), images(17)
    plan = plan_of(model, SHAPE, instruction_set=instruction_set)
    with torch.no_grad():
        assert difference(plan.run(x.numpy()), model(x).numpy()) < TOLERANCE


def test_without_tuning_the_answer_is_the_same_bit_for_bit_on_every_load():
    model, x = build("resnet18"), images(17, (3, 32, 32)).numpy()
    masked(model, "unstructured", 0.1)
    first, second = (plan_of(model, (3, 32, 32)).run(x) for _ in range(2))
    assert np.array_equal(first, second)


def test_two_threads_answer_like_one():
    model, x = build("resnet18"), images(40, (3, 32, 32)).numpy()
    masked(model, "unstructured", 0.1)
    one, two = (plan_of(model, (3, 32, 32), num_threads=n) for n in (1, 2))
    for num in (1, 2, 16, 33, 40):
        assert difference(two.run(x[:num]), one.run(x[:num])) < TOLERANCE


def test_several_python_threads_may_call_one_plan():
    model, x = build("cnn-small").eval(), images(64, (3, 32, 32)).numpy()
    masked(model, "unstructured", 0.1)
    plan = plan_of(model, (3, 32, 32), num_threads=2)
    parts = [x[i : i + 1 + i % 20] for i in range(40)]
    alone = [plan.run(part) for part in parts]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(plan.run, parts))
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
