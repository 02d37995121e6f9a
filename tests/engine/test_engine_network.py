"""Answers and input gradients on the sparse weights are those of the network."""

import copy

import pytest
import torch
from tests.engine.networks import NETWORKS, SHAPE, images, made
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.engine.network import SparseNetwork

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")

TOLERANCE = 1e-5  # of the length of a gradient


def gradient(network, x, index=0):
    """Return the gradient of one logit, summed over the images."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(x)[:, index].sum(), x)
    return found


def assert_same(sparse, model, x):
    with torch.no_grad():
        wanted = model(x)
        assert (sparse(x) - wanted).abs().max() <= 2e-6 * wanted.abs().max()
    for index in (0, 2):
        wanted = gradient(model, x, index)
        assert (gradient(sparse, x, index) - wanted).norm() <= TOLERANCE * wanted.norm()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num", [1, 5, 16, 35])
def test_answers_and_gradients_are_those_of_the_network(name, num):
    model = made(NETWORKS[name], density=0.3).eval()
    assert_same(SparseNetwork(model, SHAPE), model, images(num))


def test_one_forward_gives_the_gradients_of_all_logits():
    model, x = made(NETWORKS["OwnResNet"], density=0.3).eval(), images(17).requires_grad_()
    logits = SparseNetwork(model, SHAPE)(x)
    for index in range(logits.shape[1]):
        (found,) = torch.autograd.grad(logits[:, index].sum(), x, retain_graph=True)
        wanted = gradient(model, x.detach(), index)
        assert (found - wanted).norm() <= TOLERANCE * wanted.norm()


@torch.no_grad()
def grow(model):
    """Change every value, and which weights are zero."""
    generator = torch.Generator().manual_seed(5)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.dim() > 0:
            tensor.mul_(torch.rand(tensor.shape, generator=generator) + 0.5)
    weight = next(m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    weight[torch.rand(weight.shape, generator=generator) < 0.2] = 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_new_values_and_another_mask_are_taken_over(name):
    model, x = made(NETWORKS[name], density=0.3).eval(), images(17)
    sparse = SparseNetwork(model, SHAPE)
    before = sparse(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    assert torch.equal(sparse(x), before)  # not before it is told
    sparse.refresh()
    assert_same(sparse, model, x)
    grow(model)
    sparse.refresh()
    assert_same(sparse, model, x)


def test_values_after_many_refreshes_are_those_of_a_new_one_bit_for_bit():
    model, x = made(NETWORKS["OwnResNet"], density=0.3).eval(), images(17)
    sparse = SparseNetwork(model, SHAPE)
    for _ in range(3):
        grow(model)
        sparse.refresh()
    fresh = SparseNetwork(model, SHAPE)
    assert torch.equal(sparse(x), fresh(x))
    assert torch.equal(gradient(sparse, x), gradient(fresh, x))


def test_the_engine_is_in_eval_mode_and_leaves_the_model_alone():
    model, x = made(NETWORKS["OwnResNet"], density=0.3).eval(), images(4)
    sparse = SparseNetwork(model, SHAPE)
    wanted = model(x)
    before = copy.deepcopy(model.state_dict())
    sparse.train()
    model.train()
    assert torch.allclose(sparse(x), wanted, rtol=1e-5, atol=1e-5)
    assert model.training and list(sparse.parameters()) == []
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_an_attack_on_the_engine_finds_what_it_finds_on_the_network():
    model, x = made(NETWORKS["OwnResNet"], density=0.3).eval(), images(16)
    y = model(x).argmax(1)
    attack = PGD(eps=0.02, steps=3)
    found = [attack(m, x, y, stream(0, "a")) for m in (model, SparseNetwork(model, SHAPE))]
    assert (found[0] - found[1]).abs().max() <= 0.04 + 1e-6  # a sign may flip where it is near zero
    assert ((found[0] - found[1]).abs() > 1e-6).float().mean() < 0.01


def test_images_of_another_type_are_refused():
    with pytest.raises(UserError, match=r"float32 on the CPU, got torch\.float64"):
        SparseNetwork(made(NETWORKS["Dense"]), SHAPE)(images().double())
