"""Any network of the runtime's operators becomes a graph that answers like it, or is refused."""

import pytest
import torch
from tests.engine.networks import NETWORKS, SHAPE, images, made
from tests.runtime.interpreter import difference, interpret
from torch import nn
from torch.nn.utils import prune

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.engine.lower import lower, tensor_shapes
from wiry.models.base import build_model
from wiry.runtime.graph import parse_graph
from wiry.runtime.simplify import simplify


def answer(model, shape, x):
    """Return the numpy interpreter's answer of the simplified graph."""
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return interpret(simplify(lower(model, shape).graph, arrays), x.numpy())


def expected(model, x):
    with torch.no_grad():
        return model.eval().double()(x.double()).numpy()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_a_users_own_network_becomes_a_graph_with_its_answers(name, density):
    model, x = made(NETWORKS[name], density=density).eval(), images()
    if name == "OwnResNet":  # its literals stay single precision
        with torch.no_grad():
            wanted = model(x).numpy()
    found = answer(model, SHAPE, x)
    assert difference(found, wanted if name == "OwnResNet" else expected(model, x)) < 2e-6


@pytest.mark.parametrize("name", registry("model").names())
def test_every_model_becomes_a_graph_with_its_answers(name):
    statistics = (torch.tensor([0.4, 0.5, 0.3]), torch.tensor([0.2, 0.3, 0.25]))
    model = build_model(
        name, input_shape=(3, 32, 32), num_classes=10, seed=0, statistics=statistics
    )
    x = images(1, (3, 32, 32))
    found = answer(made(model, density=0.1).eval(), (3, 32, 32), x)
    assert difference(found, expected(model, x)) < 2e-6


def test_a_residual_network_is_convolutions_and_little_else():
    model = made(NETWORKS["OwnResNet"]).eval()
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    operations = simplify(lower(model, SHAPE).graph, arrays)
    assert [(op["kind"], len(op["inputs"]), op.get("relu")) for op in operations] == [
        ("affine", 1, None),  # its shift does not go through the padding
        ("conv2d", 1, True),
        ("max_pool2d", 1, None),
        ("conv2d", 1, True),
        ("conv2d", 2, True),
        ("conv2d", 1, False),
        ("conv2d", 1, True),
        ("conv2d", 2, True),
        ("avg_pool2d", 1, None),
        ("flatten", 1, None),
        ("linear", 1, False),
    ]


def test_lowering_leaves_the_network_as_found():
    model = made(NETWORKS["OwnResNet"]).train()
    model.stem[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    lower(model, SHAPE)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.requires_grad for p in model.parameters())


def test_a_network_pruned_by_torch_refers_to_weight_times_mask():
    model = made(NETWORKS["Pooled"]).eval()
    prune.random_unstructured(model.conv, "weight", 0.5)
    prune.l1_unstructured(model.head, "bias", 1)
    graph = lower(model, SHAPE).graph
    found = {op.name: op.attributes for op in graph.ops if op.kind == "conv2d"}
    assert set(found["conv"]["weight"]["product"]) == {"conv.weight_orig", "conv.weight_mask"}
    assert set(found["head"]["bias"]["product"]) == {"head.bias_orig", "head.bias_mask"}
    x = images()
    assert difference(answer(model, SHAPE, x), model(x).detach().numpy()) < 2e-6
    (weight,) = (p for n, p in model.named_parameters() if n == "conv.weight_orig")
    model(x).sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad != 0, model.conv.weight_mask != 0)


def test_what_became_numbers_is_named():
    assert lower(made(NETWORKS["OwnResNet"]), SHAPE).baked == {"mean"}
    assert lower(made(NETWORKS["Pooled"]), SHAPE).baked == set()


def test_a_graph_comes_back_from_plain_data():
    model = made(NETWORKS["PreActivation"])
    graph = lower(model, SHAPE).graph
    assert parse_graph(graph.to_data(), tensor_shapes(model.state_dict())) == graph


class Own(nn.Module):
    """A network of one function."""

    def __init__(self, function):
        super().__init__()
        self.function, self.linear = function, nn.Linear(3 * 16 * 16, 4)

    def forward(self, x):
        return self.function(self.linear, x)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Sigmoid()),
            r"layer '1' \(Sigmoid\): aten.sigmoid: .* not know",
        ),
        (
            nn.Sequential(nn.GroupNorm(3, 3), nn.Flatten()),
            r"layer '0' \(GroupNorm\): aten.group_norm",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 3, 3, dilation=2), nn.Flatten()),
            r"layer '0' .*dilation \[2, 2\]",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 3, 2, padding="same"), nn.Flatten()),
            "'same' needs a kernel of odd",
        ),
        (nn.Sequential(nn.Conv2d(3, 1, 1, padding=1)), "padding must be smaller than the kernel"),
        (nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True)), r"\(MaxPool2d\).*ceil mode"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(5)), "16x16 to 5x5, which does not divide"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "statistics of the batch"),
        (nn.ReLU6(), "hardtanh|clamp"),
        (nn.Conv2d(3, 3, 1), "does not return logits"),
        (nn.Identity(), "does not return logits"),
        (Own(lambda f, x: f(x.flatten(1)) * f(x.flatten(1))), r"own forward \(Own\): aten.mul"),
        (Own(lambda f, x: f(x.permute(0, 2, 3, 1).flatten(1))), "aten.permute"),
        (Own(lambda f, x: f(x.flatten(1)).mean(0, keepdim=True)), "a mean over"),
        (Own(lambda f, x: f((x + torch.rand(16, 16)).flatten(1))), "aten.rand draws random"),
        (Own(lambda f, x: f((x + torch.ones(16, 16)).flatten(1))), "may differ between channels"),
        (
            Own(lambda f, x: f(torch.dropout(x, 0.5, True).flatten(1))),
            "native_dropout draws random",
        ),
        (Own(lambda f, x: f(x.flatten(1)) if x.sum() > 0 else x), "cannot be exported by torch"),
        (Own(lambda f, x: (f(x.flatten(1)), 1)), "returns more than its logits"),
        (Own(lambda f, x: f(x.reshape(2, -1)[:, :768])), "cannot be exported|mixes the images"),
        (nn.Linear(16, 2), "a linear layer on anything but one vector"),
    ],
)
def test_what_the_runtime_does_not_know_is_refused_by_layer_and_operator(model, text):
    with pytest.raises(UserError, match=text):
        lower(model, SHAPE)


def test_a_weight_that_is_computed_is_refused_with_what_to_do():
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(768, 2)))
    with pytest.raises(UserError, match=r"layer '1' \(.*computed from 1\.parametrizations.*remove"):
        lower(model, SHAPE)


def test_a_network_of_double_precision_is_refused():
    with pytest.raises(UserError, match=r"'1.weight' is float64.*model\.float"):
        lower(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)).double(), SHAPE)
