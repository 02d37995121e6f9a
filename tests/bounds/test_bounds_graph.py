"""What can be traced, what is refused by name, and in which mode layers are taken."""

import pytest
import torch
from tests.bounds.nets import images, network
from torch import Tensor, nn

from wiry.bounds.certify import certified, margins
from wiry.bounds.statistics import recorded_statistics
from wiry.core.errors import UserError
from wiry.core.rng import stream


class Net(nn.Module):
    """A convolution, what the test puts in the middle, and a linear layer."""

    def __init__(self, middle, num_features: int = 72) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(num_features, 3)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.first(x)).flatten(1))


def in_place(h: Tensor) -> Tensor:
    kept = h - 0.1
    doubled = kept
    doubled += 0.2
    return kept.relu_() + doubled


FUNCTIONS = {
    "relu and constants": lambda h: 1.5 - torch.relu(h) / 2,
    "in place": in_place,
    "product with a constant": lambda h: (2 * h * torch.tensor([1.0, -2.0])[:, None, None]).relu(),
    "view by size": lambda h: h.view(h.size(0), -1).relu().view(h.shape[0], 2, 36),
    "negation and difference": lambda h: torch.relu(-h) - torch.nn.functional.relu(h),
    "torch functions": lambda h: torch.flatten(torch.add(torch.relu(h), 1.0), 1),
}
MODULES = {
    "average pool": (nn.AvgPool2d(3, stride=2, padding=1), 18),
    "adaptive pool": (nn.AdaptiveAvgPool2d(1), 2),
    "strided max pool": (nn.MaxPool2d(3, stride=1), 32),
    "strided convolution": (nn.Conv2d(2, 2, 3, stride=2), 8),
    "dilated groups": (nn.Conv2d(2, 4, 3, stride=3, dilation=2, padding=2, groups=2), 16),
    "one-dimensional norm": (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72)), 72),
    "dropout and in-place": (nn.Sequential(nn.Dropout(0.5), nn.ReLU(inplace=True)), 72),
    "identity": (nn.Sequential(nn.Identity(), nn.Sequential(), nn.ReLU()), 72),
}
CASES = {name: (function, 72) for name, function in FUNCTIONS.items()} | MODULES


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_what_can_be_traced_is_bounded(case):
    model = Net(*CASES[case]).eval()
    x = torch.rand(3, 1, 6, 6, generator=stream(0, "x"))
    y = torch.tensor([0, 1, 2])
    exact = [margins(model, x, y, 0.0, method)[0] for method in ("ibp", "crown-ibp")]
    bounds = margins(model, x, y, 0.05, "ibp", "crown-ibp")
    for draw in range(10):
        noise = torch.rand(x.shape, generator=stream(1, draw)) * 2 - 1
        logits = model((x + 0.05 * (noise.sign() if draw % 2 else noise)).clamp(0, 1))
        found = logits.gather(1, y[:, None]) - logits
        assert all(bool((found >= bound - 1e-4).all()) for bound in bounds)
    logits = model(x)
    for value in exact:
        torch.testing.assert_close(value, logits.gather(1, y[:, None]) - logits, atol=1e-4, rtol=0)


class Wrapped(nn.Linear):
    """A linear layer that does something else: its class must not be enough to be believed."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.amax(1, keepdim=True)


REFUSED = {
    "GELU": (nn.GELU(), "layer 'middle' \\(GELU\\)"),
    "in a sequence": (nn.Sequential(nn.ReLU(), nn.Sigmoid()), "layer 'middle.1' \\(Sigmoid\\)"),
    "product": (lambda h: h * h, "mul.*product of two steps"),
    "division": (lambda h: 1 / (h + 2), "division by a step"),
    "unknown function": (lambda h: torch.exp(h), "exp.*not known"),
    "unknown method": (lambda h: h.abs(), "abs.*not known"),
    "other size": (lambda h: h.view(h.shape[0] // 1, -1), "number of images"),
    "circular padding": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "zeros"),
    "ceil": (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
    "mean of images": (lambda h: h.mean((0, 1)), "mean over the images"),
    "mixed images": (lambda h: h.view(-1, 36), "mixes images"),
    "wide constant": (lambda h: h + torch.ones(3, 1, 1, 1), "shape"),
    "values decide": (lambda h: h if h.sum() > 0 else -h, "cannot be traced"),
    "subclass": (nn.Sequential(nn.Flatten(), Wrapped(72, 72)), "not known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_bounds_is_refused_by_name(case):
    middle, message = REFUSED[case]
    x, y = torch.rand(3, 1, 6, 6, generator=stream(0, "x")), torch.tensor([0, 1, 2])
    with pytest.raises(UserError, match=message):
        margins(Net(middle).eval(), x, y, 0.05, "ibp")


@pytest.mark.parametrize("eps", [-0.1, 8, float("nan")])
def test_a_radius_outside_the_pixels_is_refused(eps):
    with pytest.raises(UserError, match="eps must be in"):
        certified(network("mlp"), *images("mlp"), eps)


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="'crown'; known: ibp, crown-ibp"):
        certified(network("mlp"), *images("mlp"), 0.1, "crown")


def test_layers_that_differ_in_training_need_it_settled():
    model = network("cnn-small").train()
    with pytest.raises(UserError, match=r"features.1.*batch statistics are not given"):
        margins(model, *images("cnn-small"), 0.01, "ibp")
    with pytest.raises(UserError, match="dropout has bounds in eval mode only"):
        margins(Net(nn.Dropout(0.5)).train(), torch.rand(3, 1, 6, 6), torch.zeros(3).long(), 0.1)


@pytest.mark.parametrize("name", ["cnn-small", "resnet18"])
def test_recorded_statistics_make_bounds_of_radius_zero_the_training_forward(name):
    model, (x, y) = network(name).double().train(), images(name, num=6)
    x = x.double()
    with recorded_statistics(model) as statistics:
        logits = model(x)
    clean = logits.gather(1, y[:, None]) - logits
    for bound in margins(model, x, y, 0.0, "ibp", "crown-ibp", statistics=statistics):
        torch.testing.assert_close(bound, clean, rtol=1e-6, atol=1e-6)
    weight = model.get_parameter(next(n for n, p in model.named_parameters() if p.dim() == 4))
    (bound,) = margins(model, x, y, 0.0, "ibp", statistics=statistics)
    same = [
        torch.autograd.grad(v.square().sum(), weight, retain_graph=True)[0] for v in (clean, bound)
    ]
    torch.testing.assert_close(*same, rtol=1e-4, atol=1e-4)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_statistics_are_not_recorded_in_eval_mode():
    with recorded_statistics(network("cnn-small")) as statistics:
        network("cnn-small")(images("cnn-small")[0])
    assert statistics == {}
