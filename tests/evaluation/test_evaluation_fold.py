"""The folded copy answers like the network, without batch norms, and leaves the network alone."""

import copy

import pytest
import torch
from torch import nn

from wiry.attacks.presets import autoattack
from wiry.core.registry import registry
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.fold import folded
from wiry.models.base import build_model

SHAPE = (3, 32, 32)
NORMS = {"cnn-small": 3, "resnet18": 20, "vgg16": 13, "mlp": 0, "lenet5": 0}


def trained_like(name):
    """Return a model whose running statistics and scales are not the trivial ones."""
    spec = {"name": name} | ({"width": 4} if name in ("cnn-small", "resnet18") else {})
    model = build_model(spec, input_shape=SHAPE, num_classes=10, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model.eval(), torch.rand(8, *SHAPE)


@pytest.mark.parametrize("name", registry("model").names())
def test_a_folded_copy_has_the_same_logits(name):
    model, x = trained_like(name)
    before = copy.deepcopy(model.state_dict())
    private, num_folded = folded(model, x)
    assert num_folded == NORMS[name]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in private.modules())
    wanted = model(x).detach()
    assert torch.allclose(private(x), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


class Forks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        features = self.layer(x)
        return (self.norm(features) + features).mean((2, 3))


class Depends(Forks):
    def forward(self, x):
        features = self.norm(self.layer(x))
        return features.mean((2, 3)) * (2 if features.sum() > 0 else 3)


class Noisy(Forks):
    """Tracing would turn the noise into a constant, and the attack would learn it by heart."""

    def forward(self, x):
        features = self.norm(self.layer(x))
        return features.mean((2, 3)) + torch.randn(2)


def test_noise_that_a_network_draws_is_not_frozen():
    model, x = Noisy().eval(), torch.rand(4, *SHAPE)
    private, num_folded = folded(model, x)
    assert num_folded == 0 and not torch.equal(private(x), private(x))


@pytest.mark.parametrize("kind", [Forks, Depends])
def test_what_cannot_be_folded_is_copied_as_it_is(kind):
    model, x = kind().eval(), torch.rand(4, *SHAPE)
    private, num_folded = folded(model, x)
    assert num_folded == 0 and private is not model
    assert torch.allclose(private(x), model(x), atol=1e-6)


class Rounded(torch.autograd.Function):
    """Rounds; its gradient is that of doing nothing."""

    @staticmethod
    def forward(ctx, x):
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class StraightThrough(Forks):
    """Tracing would take the rounding for what it is, whose gradient is zero."""

    def forward(self, x):
        return self.norm(self.layer(Rounded.apply(x))).mean((2, 3))


class StraightThroughBlock(Forks):
    """The same with a block under no_grad, which tracing would leave out."""

    def forward(self, x):
        with torch.no_grad():
            error = (8 * x).round() / 8 - x
        return self.norm(self.layer(x + error)).mean((2, 3))


class Blind(Forks):
    def forward(self, x):
        with torch.no_grad():
            return self.norm(self.layer(x)).mean((2, 3))


@pytest.mark.parametrize("kind", [StraightThrough, StraightThroughBlock, Blind])
def test_gradients_of_a_networks_own_making_are_kept(kind):
    model, x = kind().eval(), torch.rand(4, *SHAPE)

    def gradient(network):
        pixels = x.clone().requires_grad_()
        logits = network(pixels)
        return torch.autograd.grad(logits.sum(), pixels)[0] if logits.requires_grad else None

    wanted, found = gradient(model), gradient(folded(model, x)[0])
    if kind is Blind:
        assert wanted is None and found is None
    else:
        assert wanted.abs().max() > 0
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)


class Double(nn.Module):
    """Takes float32 and answers in float64."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x.flatten(1)).double()


def test_a_network_that_answers_in_another_type_can_be_attacked():
    model, x = Double().eval(), torch.rand(6, 1, 2, 2)
    y = model(x).argmax(1)
    assert folded(model, x)[0](x).dtype == x.dtype
    attacks = autoattack(0.3)
    table = attack_images(model, x, y, [attacks[0], attacks[1], attacks[2]], cascade=True)
    assert 0 <= table.robust.sum() < 6
