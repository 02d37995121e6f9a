"""The folded copy answers like the network, without batch norms, and leaves the network alone."""

import copy

import pytest
import torch
from torch import nn

from wiry.core.registry import registry
from wiry.evaluate.fold import folded
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
    assert torch.equal(private(x), model(x))
